import { expect, test } from "bun:test";
import path from "node:path";
import { LlmnodeError } from "../../src/protocol/errors.ts";
import { silentLog } from "../../src/util/log.ts";
import { adoptSlot } from "../../src/worker/adopt.ts";
import { type Slot, type SlotOptions, takeSlot } from "../../src/worker/identity.ts";
import { FAST, startTestHead } from "../helpers/cluster.ts";
import { startEngine } from "../helpers/engine.ts";
import { isRunning, processesWithEnvironment, spawnProcess } from "../helpers/process.ts";
import { waitFor } from "../helpers/wait.ts";
import { sim, startTestWorker, tempDir } from "../helpers/worker.ts";

const CHAT = "/v1/chat/completions";
const ask = (extra: object = {}) => ({
  model: "m",
  max_tokens: 4,
  messages: [{ role: "user", content: "hi" }],
  ...extra,
});
// So long that only a worker that proves what it follows comes in at once.
const PATIENT = { ...FAST, cluster: { ...FAST.cluster, replaceRunAfterMs: 60_000 } };

for (const data of ["direct", "lane"] as const) {
  test(`after a release the same engine answers, for the same worker (${data})`, async () => {
    using dir = tempDir();
    await using head = await startTestHead(PATIENT);
    const options = { data, engine: { argv: sim("--model", "m", "--itl", "20ms") } };
    const first = await startTestWorker(head, dir.path, options);
    await head.ready("m");
    const before = (await head.status()).workers[0];
    const pids = processesWithEnvironment(`LLMNODE_ENGINE_ID=${before?.id}-1`);
    const running = await head.post(CHAT, ask({ stream: true, max_tokens: 100 }));
    const text = running.text();
    await first.worker.release();
    expect(pids.every(isRunning)).toBe(true);

    await using second = await startTestWorker(head, dir.path, options);
    await waitFor(async () => (await head.status()).workers[0]?.engines[0]?.adopted === true);
    await head.ready("m");
    expect((await head.post(CHAT, ask())).status).toBe(200);
    const after = (await head.status()).workers;
    expect(after.map(({ id, name }) => [id, name])).toEqual([
      [before?.id ?? "", before?.name ?? ""],
    ]);
    expect(after[0]?.engines[0]).toMatchObject({ pid: pids[0], restarts: 0, adopted: true });
    // A request that goes to the engine itself does not notice; a lane ends with its worker.
    if (data === "direct") expect(await text).toEndWith("data: [DONE]\n\n");
    else expect(await text).toContain('"code":"upstream_broken"');
    await waitFor(() => second.worker.inFlight === 0);
    await second.worker.stop();
    expect(pids.some(isRunning)).toBe(false);
  });
}

test("requests to an attached engine go on while another worker adopts it", async () => {
  using dir = tempDir();
  const more = Promise.withResolvers<void>();
  await using engine = startEngine((request) => {
    const { pathname } = new URL(request.url);
    if (pathname === "/v1/models") return Response.json({ data: [{ id: "m", owned_by: "vllm" }] });
    return pathname === "/health" ? new Response("") : slowAnswer(more.promise);
  });
  await using head = await startTestHead(PATIENT);
  const options = { engine: { attach: `http://127.0.0.1:${engine.port}` } };
  const first = await startTestWorker(head, dir.path, options);
  await head.ready("m");
  const text = (await head.post(CHAT, ask({ stream: true }))).text();
  await first.worker.release();
  await using second = await startTestWorker(head, dir.path, options);
  await waitFor(() => second.log.some((line) => line.includes("joined")));
  await head.ready("m");
  // As long as requests of an ended run may go on.
  await Bun.sleep((FAST.cluster?.endedGraceMs ?? 0) * 2);
  more.resolve();
  expect(await text).toEndWith("data: [DONE]\n\n");
  await waitFor(() => second.worker.inFlight === 0);
  // In order, the next one is new.
  await second.worker.stop();
  await using third = await startTestWorker(head, dir.path, options);
  await head.ready("m");
  expect(third.log.join("")).not.toContain("refuses");
});

/** A stream whose end is waited for. */
function slowAnswer(more: Promise<void>): Response {
  const chunk = (content: string) => `data: {"choices":[{"delta":{"content":"${content}"}}]}\n\n`;
  const body = async function* () {
    yield chunk("a");
    await more;
    yield `${chunk("b")}data: [DONE]\n\n`;
  };
  return new Response(body(), { headers: { "content-type": "text/event-stream" } });
}

test("an engine that is done ends its worker without an error, one that failed with the reason", async () => {
  using dir = tempDir();
  await using head = await startTestHead(FAST);
  const script = (code: number) => ({ argv: ["sh", "-c", `echo 'ValueError: no'; exit ${code}`] });
  await using done = await startTestWorker(head, dir.path, {
    engine: script(0),
    restart: "on-failure",
  });
  expect(await done.worker.ended).toBeNull();
  await using failed = await startTestWorker(head, dir.path, { engine: script(3), restart: "no" });
  const error = await failed.worker.ended;
  expect([error?.code, error?.message, error?.hints]).toEqual([
    "join_failed",
    "the engine ended: exited with code 3: ValueError: no",
    ["it is not started again, as --restart no says"],
  ]);
});

const wanted = (dataDir: string, more: Partial<SlotOptions> = {}): SlotOptions => ({
  dataDir,
  machineId: "machine",
  hostname: "host",
  name: null,
  command: ["vllm", "serve", "m"],
  ...more,
});
const HOLDER = path.resolve(import.meta.dir, "fixtures/slot-holder.ts");
const hold = (options: SlotOptions, ...more: string[]) =>
  spawnProcess([process.execPath, HOLDER, JSON.stringify(options), ...more]);
const limits = { timeoutMs: 5_000, log: silentLog };

for (const name of [null, "gpu"]) {
  test(`a running worker ${name ? "of that name" : "for that command"} is asked to go`, async () => {
    using dir = tempDir();
    const options = wanted(dir.path, { name });
    await using other = hold(wanted(dir.path, { command: ["something", "else"] }));
    await other.waitForLine("holds");
    await using holder = hold(options);
    const [, id] = await holder.waitForLine(/^holds (\S+)/);
    using slot: Slot = await adoptSlot(options, limits);
    expect(slot.workerId).toBe(id ?? "");
    expect((await holder.finished).code).toBe(0);
    expect(other.output()).not.toContain("asked");
  });
}

test("with nobody to ask it starts as usual", async () => {
  using dir = tempDir();
  using slot = await adoptSlot(wanted(dir.path), limits);
  expect(slot.name).toBe("host");
});

test("one that does not go is named, and nothing is taken", async () => {
  using dir = tempDir();
  await using holder = hold(wanted(dir.path), "--stubborn");
  await holder.waitForLine("holds");
  const error = await adoptSlot(wanted(dir.path), { ...limits, timeoutMs: 200 }).then(
    () => null,
    (reason: unknown) => reason,
  );
  if (!(error instanceof LlmnodeError)) throw new Error(`no LlmnodeError: ${String(error)}`);
  expect(error.code).toBe("worker_in_use");
  expect(error.message).toContain(`pid ${holder.pid}`);
  expect(isRunning(holder.pid)).toBe(true);
});

test("a worker of that name with another command is not asked", async () => {
  using dir = tempDir();
  await using holder = hold(wanted(dir.path, { name: "gpu", command: ["other"] }));
  await holder.waitForLine("holds");
  const error = await adoptSlot(wanted(dir.path, { name: "gpu" }), limits).then(
    () => null,
    (reason: unknown) => reason,
  );
  expect(error).toMatchObject({ code: "worker_in_use" });
  expect(holder.output()).not.toContain("asked");
});

test("a number in a lock file that is not its holder's is nobody's to ask", async () => {
  using dir = tempDir();
  const options = wanted(dir.path);
  using slot = takeSlot(options);
  await using stranger = spawnProcess(["sleep", "60"]);
  await Bun.write(path.join(slot.dir, "lock"), `${stranger.pid}\n`);
  using second = await adoptSlot(options, limits);
  expect(second.workerId).not.toBe(slot.workerId);
  expect(isRunning(stranger.pid)).toBe(true);
});
