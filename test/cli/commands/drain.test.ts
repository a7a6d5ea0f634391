import { expect, test } from "bun:test";
import { hostname } from "node:os";
import { resolve } from "node:path";
import { whoAmI } from "../../../src/cli/drain/order.ts";
import { FAST, fakeWorker, startTestHead, type TestHead } from "../../helpers/cluster.ts";
import { chatAnswer, eventStream, startEngine, type TestEngine } from "../../helpers/engine.ts";
import { runProcess, spawnProcess } from "../../helpers/process.ts";
import { waitFor } from "../../helpers/wait.ts";

const MAIN = resolve(import.meta.dir, "../../../src/main.ts");
const TIME = "\\d\\d:\\d\\d:\\d\\d";

function argv(head: TestHead, args: string[]): string[] {
  return [process.execPath, MAIN, ...args, "--head", head.url];
}

/** Where commands find the head's admin token. */
const envOf = (head: TestHead) => ({ LLMNODE_DATA: head.dataDir });
const llmnode = (head: TestHead, ...args: string[]) =>
  runProcess(argv(head, args), { env: envOf(head) });

/** A worker whose engine obeys: a new run follows at once, and is in `end` a moment later. */
function worker(
  head: TestHead,
  how: { name: string; port: number; end?: "READY" | "FAILED" },
): ReturnType<typeof fakeWorker> {
  const { name, port, end = "READY" } = how;
  let runs = 0;
  const fake = fakeWorker(head, {
    hello: { workerId: `identity-of-${name}`, name, run: `run-${name}` },
    port,
    models: ["m"],
    onMessage({ message }) {
      if (message !== "restartEngine") return;
      runs += 1;
      const run = `${name}-run-${runs}`;
      fake.report({ pid: 1, run, state: "STARTING", phase: "load" });
      setTimeout(() => fake.report({ pid: 1, run, state: end, reason: "no GPU" }), 30);
    },
  });
  fake.report({ pid: 1 });
  return fake;
}

const stateOf = async (head: TestHead, name: string) =>
  (await head.status()).workers.find((row) => row.name === name)?.state;

/** Never ends its stream by itself. */
function endless(): TestEngine {
  return startEngine(() =>
    eventStream(
      (async function* () {
        yield 'data: {"choices":[]}\n\n';
        await new Promise(() => {});
      })(),
    ),
  );
}

test("drain waits, says how to undo it, and tells of a second time; undrain takes it back", async () => {
  await using engine = startEngine(() => chatAnswer("hi"));
  await using head = await startTestHead(FAST);
  await using _a = worker(head, { name: "gpu-a", port: engine.port });
  await using _b = worker(head, { name: "gpu-b", port: engine.port });
  await head.ready("m", 2);
  const dry = await llmnode(head, "drain", "gpu-a", "--dry-run");
  expect([dry.code, dry.stderr]).toEqual([0, "gpu-a: would be drained, 0 in flight\n"]);
  const first = await llmnode(head, "drain", "gpu-a", "-m", "new driver");
  expect([first.code, first.stdout]).toEqual([0, ""]);
  expect(first.stderr).toMatch(
    new RegExp(
      `^gpu-a: draining, 0 in flight, deadline (\\S+ )?${TIME} \\(undo: llmnode undrain gpu-a\\)\ngpu-a: drained\n$`,
    ),
  );
  const status = await llmnode(head, "status");
  expect(status.stdout).toMatch(
    new RegExp(`gpu-a +drained.* drain by .*, since ${TIME}, new driver`),
  );
  const again = await llmnode(head, "drain", "gpu-a");
  expect(again.code).toBe(0);
  expect(again.stderr).toMatch(
    /^gpu-a: is drained already, by \S+@\S+ since [^\n]+\ngpu-a: drained\n$/,
  );
  const last = await llmnode(head, "drain", "gpu-b");
  expect([last.code, last.stderr.split("\n")[0]]).toEqual([
    6,
    "error: gpu-b has the last ready replica of m",
  ]);
  expect(await stateOf(head, "gpu-b")).toBe("ready");
  const forced = await llmnode(head, "drain", "gpu-b", "--force", "--no-wait");
  expect([forced.code, forced.stderr]).toEqual([0, "gpu-b: drain ordered\n"]);
  const back = await llmnode(head, "undrain", "gpu-a", "gpu-b");
  expect([back.code, back.stderr]).toEqual([
    0,
    "gpu-a: takes requests again\ngpu-b: takes requests again\n",
  ]);
  const idle = await llmnode(head, "undrain", "gpu-a");
  expect([idle.code, idle.stderr]).toEqual([0, "gpu-a: was not drained\n"]);
});

test("what cannot be meant is one clear line, and nothing is drained", async () => {
  await using engine = startEngine(() => chatAnswer("hi"));
  await using head = await startTestHead(FAST);
  await using _ = worker(head, { name: "gpu-a", port: engine.port });
  await head.ready("m");
  const firstLine = async (...args: string[]) => {
    const { code, stdout, stderr } = await llmnode(head, ...args);
    expect(stdout).toBe("");
    return [code, stderr.split("\n")[0], stderr];
  };
  const usage = async (...args: string[]) => (await firstLine(...args)).slice(0, 2);
  expect(await usage("drain")).toEqual([2, expect.stringContaining("drain needs <worker>: ")]);
  expect(await usage("drain", "")).toEqual([2, "error: drain: a worker without a name"]);
  expect(await usage("drain", "gpu-a", "-m")).toEqual([
    2,
    "error: --message needs a value: --message <text>",
  ]);
  expect(await usage("drain", "gpu-a", "--deadline", "0s")).toEqual([
    2,
    'error: --deadline needs more than zero, not "0s"',
  ]);
  expect((await usage("drain", "gpu-a", "--deadline", "5"))[0]).toBe(2);
  const typo = await firstLine("drain", "gpu-a", "gpu-x", "--force");
  expect(typo.slice(0, 2)).toEqual([5, "error: there is no worker gpu-x"]);
  expect(typo[2]).not.toContain("did you mean");
  expect((await firstLine("drain", "gpu-x"))[2]).toContain("did you mean   llmnode drain gpu-a");
  expect((await firstLine("restart", "gpu"))[0]).toBe(5);
  expect((await firstLine("undrain", "gpu"))[0]).toBe(5);
  expect((await firstLine("restart", "gpu-a/7")).slice(0, 2)).toEqual([
    5,
    "error: gpu-a has no engine 7",
  ]);
  // Nobody is there to be asked.
  const last = await firstLine("restart", "gpu-a");
  expect(last.slice(0, 2)).toEqual([6, "error: gpu-a has the last ready replica of m"]);
  expect(last[2]).toContain("--yes");
  expect(await firstLine("restart", "gpu-a", "--no-input")).toEqual(last);
  expect(await stateOf(head, "gpu-a")).toBe("ready");
});

test("the deadline ends what runs, with exit code 124", async () => {
  await using engine = endless();
  await using head = await startTestHead(FAST);
  await using _ = worker(head, { name: "gpu-a", port: engine.port });
  await head.ready("m");
  const running = await head.post("/v1/chat/completions", {
    model: "m",
    messages: [],
    stream: true,
  });
  const drained = await llmnode(head, "drain", "gpu-a", "--force", "--deadline", "300ms");
  expect(drained.code).toBe(124);
  expect(drained.stderr).toContain("gpu-a: draining, 1 in flight, deadline ");
  expect(drained.stderr).toEndWith(
    "gpu-a: 1 request had not ended by the deadline and was ended\ngpu-a: drained\n",
  );
  expect(await running.text()).toContain('{"error":');
});

test.each([
  ["SIGINT", 130],
  ["SIGTERM", 143],
] as const)("%s ends the waiting, not the drain, and says so", async (signal, code) => {
  await using engine = endless();
  await using head = await startTestHead(FAST);
  await using _ = worker(head, { name: "gpu-a", port: engine.port });
  await head.ready("m");
  const gone = new AbortController();
  const body = JSON.stringify({ model: "m", messages: [], stream: true });
  // Held, or it is collected, and its request ends.
  const running = await head.post("/v1/chat/completions", body, { signal: gone.signal });
  await using waiting = spawnProcess(argv(head, ["drain", "gpu-a", "--force"]), {
    env: envOf(head),
  });
  await waiting.waitForLine("gpu-a: draining, 1 in flight");
  waiting.kill(signal);
  const ended = await waiting.finished;
  expect(ended.code).toBe(code);
  expect(ended.stderr).toEndWith(
    "the head goes on with this drain (undo: llmnode undrain gpu-a)\n",
  );
  expect(await stateOf(head, "gpu-a")).toBe("draining");
  expect(running.status).toBe(200);
  gone.abort();
  await waitFor(async () => (await stateOf(head, "gpu-a")) === "drained");
});

test("restart tells of each step, one worker after the other", async () => {
  await using engine = startEngine(() => chatAnswer("hi"));
  await using head = await startTestHead(FAST);
  await using _a = worker(head, { name: "gpu-a", port: engine.port });
  await using _b = worker(head, { name: "gpu-b", port: engine.port });
  await head.ready("m", 2);
  const { code, stdout, stderr } = await llmnode(head, "restart", "gpu-b", "gpu-a");
  expect([code, stdout]).toEqual([0, ""]);
  expect(stderr).toContain("gpu-a: waits for its turn (undo: llmnode undrain gpu-a)\n");
  const ends = stderr.split("\n").filter((line) => line.includes("restarted"));
  expect(ends).toEqual([
    "gpu-b: restarted, it takes requests again",
    "gpu-a: restarted, it takes requests again",
  ]);
  await head.ready("m", 2);
});

test("a restart that fails says why and what was left; a last replica goes with --yes", async () => {
  await using engine = startEngine(() => chatAnswer("hi"));
  await using head = await startTestHead(FAST);
  await using _a = worker(head, { name: "gpu-a", port: engine.port, end: "FAILED" });
  await head.ready("m");
  const { code, stderr } = await llmnode(head, "restart", "gpu-a", "--yes");
  expect(code).toBe(1);
  expect(stderr).toEndWith("gpu-a: the restart failed: its engine ended: no GPU\n");
});

test.each([
  ["y\r", 0, "restarted, it takes requests again"],
  ["n\r", 6, "nothing was restarted"],
  ["\u0004", 6, "nothing was restarted"],
] as const)(
  "on a terminal the last replica is asked about, and %p decides",
  async (key, code, text) => {
    await using engine = startEngine(() => chatAnswer("hi"));
    await using head = await startTestHead(FAST);
    await using gpu = worker(head, { name: "gpu-a", port: engine.port });
    await head.ready("m");
    let screen = "";
    const child = Bun.spawn(argv(head, ["restart", "gpu-a"]), {
      env: { ...process.env, ...envOf(head) },
      terminal: {
        cols: 200,
        rows: 50,
        data: (_, bytes) => void (screen += new TextDecoder().decode(bytes)),
      },
    });
    try {
      await waitFor(() => screen.includes("[y/N]"));
      expect(screen).toContain("gpu-a has the last ready replica of m");
      child.terminal?.write(key);
      expect(await child.exited).toBe(code);
      await waitFor(() => screen.includes(text));
      expect(gpu.received.some(({ message }) => message === "restartEngine")).toBe(code === 0);
    } finally {
      child.kill("SIGKILL");
      await child.exited;
      child.terminal?.close();
    }
  },
);

test("who ordered it has a name, also without one in the environment", () => {
  expect(whoAmI({ USER: "ada" })).toBe(`ada@${hostname()}`);
  expect(whoAmI({ LOGNAME: "bob" })).toBe(`bob@${hostname()}`);
  expect(whoAmI({})).not.toStartWith("unknown@");
});
