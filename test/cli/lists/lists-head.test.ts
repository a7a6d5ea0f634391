import { expect, test } from "bun:test";
import { FAST, fakeWorker, startTestHead, type TestHead } from "../../helpers/cluster.ts";
import { eventStream, startEngine } from "../../helpers/engine.ts";
import { waitFor } from "../../helpers/wait.ts";
import { ENGINE, EVENT, faultsOf, type Kinds, MODEL, REQUEST, WORKER } from "./list-kinds.ts";
import { run } from "./list-head.ts";

/** A command line by an operator. */
function llmnode(head: TestHead, ...words: string[]) {
  const token = head.operator["authorization"]?.replace("Bearer ", "") ?? "";
  return run(head, words, { env: { LLMNODE_ADMIN_TOKEN: token } });
}

async function rowsOf(head: TestHead, member: string, ...words: string[]) {
  const { code, stdout, stderr } = await llmnode(head, ...words, "--json");
  expect([code, stderr]).toEqual([0, ""]);
  return (JSON.parse(stdout) as Record<string, Record<string, unknown>[]>)[member] ?? [];
}

test("a head with a worker, a request that runs, and all that there is to see of them", async () => {
  await using engine = startEngine(() =>
    eventStream(
      (async function* () {
        yield 'data: {"choices":[{"delta":{"content":"a"}}]}\n\n';
        await new Promise(() => {});
      })(),
    ),
  );
  await using head = await startTestHead(FAST);
  await using _ = fakeWorker(head, {
    hello: { workerId: "identity-of-a", name: "gpu-a", labels: { rack: "3" } },
    port: engine.port,
    models: ["org/m"],
  });
  expect(await llmnode(head, "wait", "gpu-a", "org/m", "--timeout", "10s")).toMatchObject({
    code: 0,
    stdout: "",
  });
  const body = { model: "org/m", stream: true, messages: [{ role: "user", content: "hi" }] };
  const response = await head.post("/v1/chat/completions", body);
  const reader = response.body?.getReader();
  await reader?.read();

  const lists: [member: string, kinds: Kinds, words: string[]][] = [
    ["workers", WORKER, ["workers"]],
    ["workers", WORKER, ["workers", "gpu-a"]],
    ["models", MODEL, ["models"]],
    ["models", MODEL, ["models", "org/m"]],
    ["engines", ENGINE, ["ps"]],
    ["requests", REQUEST, ["requests"]],
    ["events", EVENT, ["events"]],
  ];
  for (const [member, kinds, words] of lists) {
    const rows = await rowsOf(head, member, ...words);
    expect(rows.length).toBeGreaterThan(0);
    for (const row of rows) expect([words, faultsOf(row, kinds)]).toEqual([words, []]);
  }

  const [detail] = await rowsOf(head, "workers", "workers", "iden");
  expect(detail).toMatchObject({ name: "gpu-a", in_flight: 1, engines: [{ name: "gpu-a/1" }] });
  expect(await rowsOf(head, "engines", "ps", "gpu-a/1")).toMatchObject([
    { name: "gpu-a/1", worker: "gpu-a", state: "ready", models: ["org/m"], in_flight: 1 },
  ]);
  // The head computes it a few times a second at most.
  const isShown = async (expected: RegExp, ...words: string[]) =>
    await waitFor(async () => expected.test((await llmnode(head, ...words)).stdout));
  await isShown(/\norg\/m +ready +1\/1 +vllm +1 +0 /, "models");
  await isShown(/^gpu-a\n$/, "workers", "-q", "--filter", "label:rack=3 infl>0");

  const [request] = await rowsOf(head, "requests", "requests", "--filter", "phase:decode");
  const id = String(request?.["id"]);
  expect((await llmnode(head, "requests", id)).stdout).toContain("sent to gpu-a (org/m)\n");
  expect((await llmnode(head, "cancel", id.slice(0, -1))).code).toBe(5);
  expect(await llmnode(head, "cancel", id)).toMatchObject({
    code: 0,
    stderr: `${id}: cancelled\n`,
  });
  await waitFor(async () => (await reader?.read().catch(() => ({ done: true })))?.done);
  await waitFor(async () => (await rowsOf(head, "requests", "requests")).length === 0);

  await head.post("/api/v1/workers/drain", { workers: ["gpu-a"], force: true, deadline_ms: 1000 });
  const drained = await llmnode(head, "wait", "gpu-a", "--for", "drained", "--timeout", "10s");
  expect([drained.code, drained.stderr.split("\n").at(-2)]).toEqual([0, "gpu-a: drained"]);
  expect((await llmnode(head, "events", "--filter", "kind:drain")).stdout).toContain("gpu-a");
});
