import { describe, expect, test } from "bun:test";
import { ofModel, ofWorker, waitFor, GOALS } from "../../../src/cli/commands/wait.ts";
import { LlmnodeError } from "../../../src/protocol/errors.ts";
import type { RowState } from "../../../src/protocol/watch-rows.ts";
import { waitFor as until } from "../../helpers/wait.ts";
import { model, worker } from "../../top/sample.ts";
import { type ListHead, refusal, run, startListHead } from "../lists/list-head.ts";

const QUICK = { limitMs: 10_000, pollMs: 10 };

function waiting(head: ListHead, names: string[], goal: (typeof GOALS)[number], more = {}) {
  const said: string[] = [];
  const client = { url: head.url, timeoutMs: 5000, retryPausesMs: [] };
  const say = (line: string) => void said.push(line);
  const done = waitFor({ client, names, goal, say, ...QUICK, ...more }).then(
    () => "done",
    (error: unknown) => error,
  );
  return { said, done };
}

describe("when it has come so far", () => {
  const STATES: RowState[] = [
    ...(["ready", "starting", "draining", "drained", "suspect"] as const),
    ...(["unhealthy", "failed", "stale", "lost", "left"] as const),
  ];
  test.each([
    ["ready", ["ready"]],
    ["drained", ["drained"]],
    ["lost", ["lost", "left"]],
  ] as const)("a worker: %s", (goal, expected) => {
    const reached = STATES.filter((state) => ofWorker(worker("a", { state }), goal).isReached);
    expect<string[]>(reached).toEqual([...expected]);
  });

  test.each([
    [{ ready: 1, starting: 0, in_flight: 3 }, ["ready"]],
    [{ ready: 0, starting: 1, in_flight: 0 }, ["drained"]],
    [{ ready: 0, starting: 0, in_flight: 2 }, ["lost"]],
    [{ ready: 0, starting: 0, in_flight: 0 }, ["drained", "lost"]],
  ])("a model: %p", (row, expected) => {
    const reached = GOALS.filter((goal) => ofModel(model("m", row), goal).isReached);
    expect<string[]>(reached).toEqual(expected);
  });
});

test("states on the way are told, each once", async () => {
  await using head = startListHead({
    workers: [worker("a", { state: "starting", state_detail: "load 10%" })],
    models: [model("m", { state: "starting", ready: 0, starting: 1, replicas: 1 })],
  });
  const { said, done } = waiting(head, ["a", "m"], "ready");
  await until(() => said.length === 2);
  head.told.workers = [worker("a", { state: "starting", state_detail: "load 90%" })];
  const asked = head.asked.length;
  await until(() => head.asked.length > asked + 6);
  head.told.workers = [worker("a", { state: "failed", state_detail: "exit 1" })];
  await until(() => said.length === 3);
  head.told.models = [model("m", { ready: 1, replicas: 1 })];
  await until(() => said.length === 4);
  head.told.workers = [worker("a")];
  expect(await done).toBe("done");
  expect(said).toEqual([
    "a: starting load 10%",
    "m: starting, 0 of 1 replicas ready",
    "a: failed exit 1",
    "m: ready",
    "a: ready",
  ]);
});

test("what is not there is waited for, with what may have been meant", async () => {
  await using head = startListHead({ workers: [worker("gpu-01")] });
  const { said, done } = waiting(head, ["gpu-02"], "ready");
  await until(() => said.length === 1);
  head.told.workers = [worker("gpu-01"), worker("gpu-02")];
  expect(await done).toBe("done");
  expect(said).toEqual(["gpu-02: not here (yet); did you mean gpu-01?", "gpu-02: ready"]);
});

test("a head that goes away is waited for, one that was never there is not", async () => {
  await using head = startListHead({ workers: [worker("a", { state: "draining" })] });
  const { said, done } = waiting(head, ["a"], "drained");
  await until(() => said.length === 1);
  head.answer = () => new Response(null);
  await until(() => said.length === 2);
  head.told.workers = [worker("a", { state: "drained" })];
  head.answer = null;
  expect(await done).toBe("done");
  expect(said).toEqual([
    "a: draining",
    "(the head does not answer; waiting until it is back)",
    "a: drained",
  ]);
  const never = waiting({ ...head, url: "http://127.0.0.1:1" }, ["a"], "ready");
  expect(await never.done).toMatchObject({ code: "head_unreachable" });
});

test("rights that are taken away end it", async () => {
  await using head = startListHead({ workers: [worker("a", { state: "draining" })] });
  const { said, done } = waiting(head, ["a"], "drained");
  await until(() => said.length === 1);
  head.answer = () => refusal(403, "forbidden", "no");
  const error = await done;
  expect(error instanceof LlmnodeError ? error.code : error).toBe("forbidden");
});

test("from the command line: 0 when it is so, 124 when the time is over", async () => {
  await using head = startListHead({
    workers: [worker("a"), worker("b", { state: "lost", state_detail: "42s" })],
  });
  expect(await run(head, ["wait", "a", "a"])).toEqual({
    code: 0,
    stdout: "",
    stderr: "a: ready\n",
  });
  expect(await run(head, ["wait", "b", "--for", "lost"])).toMatchObject({ code: 0 });
  const late = await run(head, ["wait", "a", "b", "--timeout", "50ms"]);
  expect([late.code, late.stderr]).toEqual([
    124,
    "a: ready\nb: lost 42s\nerror: b is not ready after 0.1s (it is lost 42s)\n",
  ]);
});
