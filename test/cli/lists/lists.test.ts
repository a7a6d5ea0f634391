import { describe, expect, test } from "bun:test";
import { resolve } from "node:path";
import {
  cluster,
  detailOf,
  DRAIN,
  engine,
  gpus,
  loading,
  model,
  replicas,
  worker,
} from "../../top/sample.ts";
import { runProcess } from "../../helpers/process.ts";
import { type ListHead, refusal, run, startListHead } from "./list-head.ts";

const MAIN = resolve(import.meta.dir, "../../../src/main.ts");
const SAMPLE = cluster();

/** A cluster with details of some. */
function detailed(): Partial<ListHead["told"]> {
  const a = worker("gpu-a", {
    id: "a17c9e30",
    gpus: gpus(2),
    labels: { rack: "3" },
    engines: [engine("gpu-a/1")],
  });
  const b = worker("gpu-b", {
    id: "a17cffff",
    state: "starting",
    state_detail: "load 62%",
    drain: { ...DRAIN, since: "2026-02-03T14:00:02.000Z", message: "driver" },
    engines: [{ ...loading("gpu-b/1"), reason: "exit 1", hint: "look", evidence: ["OOM"] }],
  });
  const left = worker("gpu-c", { id: "c0ffee00", state: "left", engines: [] });
  return {
    ...SAMPLE,
    workers: [a, b, left],
    models: [model("org/A"), model("org/B", { engines: replicas("org/B") })],
  };
}

describe("words and what they give", () => {
  test.each([
    [["workers", "-q"], "gpu-01 gpu-02 gpu-03 gpu-04 gpu-05 gpu-06 gpu-07 gpu-08 gpu-09"],
    [["nodes", "-q", "--sort=-in_flight"], /^gpu-06 gpu-01 gpu-02 /],
    [["node", "-q", "--sort", "problems"], /^gpu-09 gpu-08 gpu-03 gpu-01 /],
    [["workers", "-q", "--filter", "state:lost|starting"], "gpu-08 gpu-09"],
    [["workers", "-q", "--filter", "gpu>80 infl<40"], "gpu-02"],
    [["models", "-q", "--filter", "qwen"], "Qwen/Qwen3-235B-A22B Qwen/Qwen3-8B fast"],
    [["model", "-q", "--filter", "state:starting"], "deepseek-ai/DeepSeek-V3"],
    [["requests", "-q", "--filter", "phase:queued"], "r7f3aa02 r7f3aa11"],
    [["requests", "-q", "--sort", "age"], /^r7f3aa40 /],
    [["requests", "-q", "r7f3aa4", "r7f3a91"], "r7f3aa40 r7f3a91c"],
    [["events", "-q"], "1 2 3 4"],
    [["events", "-q", "--tail", "2"], "3 4"],
    [["events", "-q", "--filter", "level:warn"], "3"],
  ] as [string[], string | RegExp][])("%p", async (words, expected) => {
    await using head = startListHead(SAMPLE);
    const { code, stdout, stderr } = await run(head, words);
    expect([code, stderr]).toEqual([0, ""]);
    const names = stdout.trim().split("\n").join(" ");
    if (typeof expected === "string") expect(names).toBe(expected);
    else expect(names).toMatch(expected);
  });

  test("a table: capitals, three spaces, - for what is not known", async () => {
    await using head = startListHead(SAMPLE);
    expect((await run(head, ["workers", "--filter", "gpu-03|gpu-09"])).stdout.split("\n")).toEqual([
      "WORKER   STATE              MODEL                  GPUS             GPU   MEM          INFL   QUE   TOK/S   TTFT          UP",
      "gpu-03   draining 12 left   Qwen/Qwen3-235B-A22B   8x NVIDIA H200   71%   1056/1128G   12     0     0.9k    233ms/700ms   3d04h",
      "gpu-09   lost 42s           Qwen/Qwen3-235B-A22B   -                -     -            0      -     -       -             3d04h",
      "",
    ]);
    const bare = await run(head, ["workers", "--filter", "gpu-03", "--no-headers"]);
    expect(bare.stdout).toStartWith("gpu-03   draining 12 left");
    const narrow = await run(head, ["workers", "--filter", "gpu-03"], { columns: 30 });
    expect(narrow.stdout.split("\n")[1]).toBe("gpu-03   draining 12 left   Q…");
    const ascii = await run(head, ["workers", "--filter", "gpu-03", "--ascii"], { columns: 30 });
    expect(ascii.stdout.split("\n")[1]).toBe("gpu-03   draining 12 left  ...");
    const byEnv = { columns: 30, env: { LLMNODE_ASCII: "1" } };
    expect((await run(head, ["workers"], byEnv)).stdout).not.toContain("…");
    const whole = await run(head, ["workers", "--no-trunc"], { columns: 30 });
    expect(whole.stdout).toContain("NVIDIA H200");
    const fields = await run(head, ["workers", "gpu-03", "--fields", "labels,name,temp_c,gpus"]);
    expect(fields.stdout).toBe(
      "LABELS   WORKER   TEMP   GPUS\n-        gpu-03   71C    8x NVIDIA H200\n",
    );
  });

  test("models, engines, requests and events as tables", async () => {
    await using head = startListHead({
      ...SAMPLE,
      status: {
        workers: [
          detailOf(worker("gpu-01"), {
            engines: [
              engine("gpu-01/1", {
                state_ms: 61_000,
                gpus: [0, 1, 5],
                in_flight: 3,
                models: ["A", "B"],
              }),
            ],
          }),
          detailOf(worker("gpu-02"), {
            engines: [
              engine("gpu-02/1", {
                state: "lost",
                state_detail: "20s",
                reason: "silent for 15s",
                state_ms: 3000,
                gpus: [0, 1, 2, 3],
                in_flight: 4,
                service: "ocr",
                models: ["ocr"],
              }),
            ],
          }),
        ],
        models: [],
        services: [],
      },
    });
    expect((await run(head, ["ps"])).stdout.split("\n")).toEqual([
      "ENGINE     MODEL         WORKER   STATE      GPUS    INFL   SINCE   REASON",
      "gpu-01/1   A, B          gpu-01   ready      0-1,5   3      1m01s",
      "gpu-02/1   service ocr   gpu-02   lost 20s   0-3     4      3.0s    silent for 15s",
      "",
    ]);
    expect((await run(head, ["ps", "gpu-02", "-q"])).stdout).toBe("gpu-02/1\n");
    expect((await run(head, ["models"])).stdout).toMatch(
      /^MODEL +ALIAS OF +STATE +READY +ENGINE +INFL +QUE +REQ\/S +TOK\/S +TTFT +ERR +CTX\n/,
    );
    expect((await run(head, ["models"])).stdout).toMatch(
      /\nfast +Qwen\/Qwen3-8B +ready +8\/8 +vllm/,
    );
    expect((await run(head, ["requests"])).stdout).toMatch(
      /\nr7f3aa2b +5\.20s +retry 1 +Qwen\/Qwen3-235B-A22B +gpu-01 +5\.1k +0 +- +-\n/,
    );
    expect((await run(head, ["events"])).stdout).toMatch(
      /\n2026-02-0\d \d\d:01:49 +warn +lost +gpu-09 +silent for 15s: lost, 39 requests moved\n/,
    );
  });

  test("all about some", async () => {
    await using head = startListHead(detailed());
    const { code, stdout } = await run(head, ["workers", "gpu-a/1", "gpu-b"]);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^gpu-a {3}ready\n {2}id {12}a17c9e30\n/);
    expect(stdout).toMatch(/\nGPU +NAME +UTIL +MEM +TEMP +POWER\n0 +NVIDIA H200 +91% +80\/141G /);
    expect(stdout).toMatch(/\nENGINE +KIND +STATE .*\ngpu-a\/1 +vllm +ready /);
    expect(stdout).toMatch(/\n\ngpu-b {3}starting load 62%\n {2}drain +by ops since .*, driver\n/);
    expect(stdout).toEndWith("\ngpu-b/1: exit 1\n  next: look\n  | OOM\n");
    const byId = await run(head, ["workers", "c0ff"]);
    expect(byId.stdout).toStartWith("gpu-c   left\n");
    const json = JSON.parse((await run(head, ["workers", "gpu-b", "--json"])).stdout);
    expect(json.workers).toMatchObject([{ name: "gpu-b", engines: [{ progress_pct: 62 }] }]);
    const one = await run(head, ["model", "org/B"]);
    expect(one.stdout).toMatch(/^org\/B {3}ready\n {2}replicas +4 of 4 ready/);
    expect(one.stdout).toMatch(/\ngpu-09\/1 +vllm +lost 42s /);
    const way = await run(head, ["requests", "r7f3a91"]);
    expect(way.stdout).toStartWith("r7f3a91c   decode   48.2s\n");
    expect(way.stdout).toEndWith("  +2.40s        gpu-01: first token\n");
  });

  test("cancel takes a whole id", async () => {
    await using head = startListHead(SAMPLE);
    expect(await run(head, ["cancel", "r7f3aa40"])).toEqual({
      code: 0,
      stdout: "",
      stderr: "r7f3aa40: cancelled\n",
    });
    expect((await run(head, ["cancel", "r7f3aa40", "--json"])).stdout).toBe(
      '{"request":{"id":"r7f3aa40"}}\n',
    );
    const part = await run(head, ["cancel", "r7f3aa4"]);
    expect([part.code, part.stderr]).toEqual([
      5,
      "error: there is no request r7f3aa4: it may have ended\n" +
        "  did you mean   llmnode cancel r7f3aa40\n  those that run:   llmnode requests\n",
    ]);
  });
});

describe("what cannot be", () => {
  test.each([
    [
      ["workers", "gpu-1"],
      5,
      "there is no worker gpu-1\n  did you mean   gpu-01\n  workers: gpu-01,",
    ],
    [["models", "bge"], 5, "there is no model bge\n  did you mean   BAAI/bge-m3\n"],
    [["requests", "zz"], 5, "there is no request zz\n"],
    [["requests", "r7f3"], 2, "r7f3 is the beginning of several ids\n  requests: r7f3a91c, "],
    [["ps", "x"], 5, "there is no engine x\n  there are no engines (yet)\n"],
    [["workers", "a", "--filter", "b"], 2, "either names of workers or --filter, not both\n"],
    [["workers", "--filter", "a sta:b"], 2, "--filter: no field sta\n  a sta:b\n    ^\n"],
    [["requests", "--filter", "|"], 2, "--filter: nothing before '|'\n"],
    [["workers", "--sort", "nmae"], 2, '--sort: there is no field "nmae"\n  did you mean name?\n'],
    [["models", "--fields", "name,x"], 2, '--fields: there is no field "x"\n  fields: name,'],
    [["events", "--tail", "0"], 2, "--tail needs a whole number from 1 to 10000, not"],
    [["events", "--since", "5"], 2, "--since needs a duration such as 500ms, 30s or 10m"],
    [["events", "-f", "--fields", "id"], 2, "--follow shows whole events"],
    [["wait"], 2, "wait needs <worker|model>: "],
    [["wait", "x", "--for", "gone"], 2, "--for needs one of ready, drained, lost, not"],
    [["wait", "gpu-x", "--for", "lost"], 5, "there is no worker or model gpu-x\n"],
    [["cancel", ""], 2, "cancel needs an id of: llmnode requests\n"],
    [["completion", "tcsh"], 2, 'completion is for bash, zsh, fish, not for "tcsh"\n'],
    [["nodess"], 2, 'unknown command "nodess": did you mean "nodes"?\n'],
  ] as [string[], number, string][])("%p ends with %p", async (words, code, message) => {
    await using head = startListHead(SAMPLE);
    const plain = await run(head, words);
    expect([plain.code, plain.stdout]).toEqual([code, ""]);
    expect(plain.stderr).toStartWith(`error: ${message}`);
    if (["wait", "completion", "cancel", "nodess"].includes(words[0] ?? "")) return;
    const json = await run(head, [...words, "--json"]);
    expect([json.code, json.stdout]).toEqual([code, ""]);
    expect(JSON.parse(json.stderr)).toMatchObject({ error: { retryable: false } });
  });

  const LISTS = [["workers"], ["models"], ["ps"], ["requests"], ["events"], ["workers", "x"]];

  test.each(LISTS.map((words) => [words] as const))(
    "%p: no head, no rights, no such thing",
    async (words) => {
      const away = await run({ url: "http://127.0.0.1:1" }, [...words, "--json"]);
      expect([away.code, away.stdout]).toEqual([3, ""]);
      expect(JSON.parse(away.stderr)).toMatchObject({
        error: { code: "head_unreachable", retryable: true },
      });
      await using head = startListHead();
      head.answer = () => refusal(403, "forbidden", "a viewer's key is needed");
      const refused = await run(head, words);
      expect(refused.code).toBe(4);
      expect(refused.stderr).toStartWith(
        `error: the head at ${head.url} does not allow this: a vi`,
      );
      head.answer = () => Response.json({ schema: "other/9" });
      const other = await run(head, words);
      expect([other.code, other.stdout]).toEqual([words[0] === "ps" ? 1 : other.code, ""]);
      expect(other.stderr).toStartWith("error: ");
      head.answer = () => new Response("event: frame\ndata: {}\n\n");
      expect((await run(head, words)).code).toBe(1);
    },
  );

  test("a filter that only the head does not read", async () => {
    await using head = startListHead(SAMPLE);
    const sent = { schema: "llmnode.watch/1", rows: [], filter_problem: { message: "new", at: 2 } };
    head.answer = () => new Response(`event: frame\ndata: ${JSON.stringify(sent)}\n\n`);
    const { code, stderr } = await run(head, ["workers", "--filter", "a b"]);
    expect([code, stderr]).toEqual([2, "error: --filter: new\n  a b\n    ^\n"]);
  });

  test("nothing to list is said on stderr, and is no failure", async () => {
    await using head = startListHead();
    const told = async (...words: string[]) => {
      const { code, stdout, stderr } = await run(head, words);
      expect([code, stdout]).toEqual([0, ""]);
      return stderr;
    };
    expect(await told("workers")).toBe(
      "no workers (yet). Add one: llmnode join 127.0.0.1 -- <engine command>\n",
    );
    expect(await told("workers", "-q")).toStartWith("no workers (yet).");
    expect(await told("models")).toStartWith("no models (yet).");
    expect(await told("ps")).toStartWith("no engines (yet). Add one: llmnode join ");
    expect(await told("requests")).toBe("no requests run\n");
    expect(await told("events")).toBe("nothing has happened (yet)\n");
    expect(await told("workers", "--filter", "x")).toBe("no worker has these words\n");
  });
});

test("other words for a command, in help too", async () => {
  const head = { url: "http://127.0.0.1:1" };
  const { code, stdout } = await run(head, ["help", "node"]);
  expect(code).toBe(0);
  expect(stdout).toContain("Usage: llmnode workers ");
  expect(stdout).toContain("Also: worker, nodes, node\n");
  expect((await run(head, ["model", "--help"])).stdout).toContain("Usage: llmnode models ");
  expect((await run(head, ["help"])).stdout).not.toContain("__complete");
});

test("what takes more than a second is said, once, and not to programs", async () => {
  await using head = startListHead(SAMPLE);
  head.delayMs = 1100;
  const [plain, json] = await Promise.all([
    run(head, ["workers", "gpu-01"]),
    run(head, ["workers", "--json"]),
  ]);
  expect(plain.stderr).toBe(`waiting for the head at ${head.url} (at most 5.0s) ...\n`);
  expect([plain.code, json.code, json.stderr]).toEqual([0, 0, ""]);
});

test("a head that takes the question and says nothing", async () => {
  await using head = startListHead();
  head.answer = () =>
    new Response(new ReadableStream({ start: (c) => c.enqueue(Buffer.from(":\n\n")) }));
  const { code, stderr } = await run(head, ["workers", "--timeout", "200ms"]);
  expect([code, stderr]).toEqual([
    3,
    `error: the head at ${head.url} does not answer (nothing to see in 0.2s)\n`,
  ]);
});

test("pipes get no colours, and one that closes early is no failure", async () => {
  await using head = startListHead({
    workers: Array.from({ length: 3000 }, (_, i) => worker(`gpu-${String(i).padStart(4, "0")}`)),
  });
  const command = `'${process.execPath}' '${MAIN}' workers | head -2`;
  const env = { LLMNODE_HEAD: head.url, HOME: "/dev/null/home", FORCE_COLOR: "1" };
  const { code, stdout, stderr } = await runProcess(["bash", "-o", "pipefail", "-c", command], {
    env,
  });
  expect([code, stderr]).toEqual([0, ""]);
  expect(stdout).toMatch(/^WORKER .*\ngpu-0000 .*\n$/);
  expect(stdout).not.toContain("\u001b");
});
