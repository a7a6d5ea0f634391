import { expect, test } from "bun:test";
import type { EngineStatus } from "../../../src/engine/status.ts";
import { fixture, isRunning, startEngine, tell, until } from "../harness.ts";

const states = (changes: readonly EngineStatus[]) =>
  changes.map(({ state }) => state).filter((state, i, all) => state !== all[i - 1]);
const BAD_FLAG = "echo 'vllm: error: unrecognized arguments: --x' >&2; exit 2";
const QUICKLY = { backoffFirstMs: 1, backoffMaxMs: 5 };

test("five starts that fail for the same lasting reason are failed, until it is asked again", async () => {
  await using engine = await startEngine(
    { argv: ["sh", "-c", BAD_FLAG] },
    { settings: { ...QUICKLY } },
  );
  const failed = await engine.reaches("failed");
  expect(failed).toMatchObject({ restarts: 4, failure: "bad_flag", pid: null });
  expect(failed.reason).toContain("unrecognized arguments: --x");
  expect(engine.changes.filter(({ state }) => state === "backoff").length).toBe(5);
  await engine.supervisor.stop();
  expect(engine.supervisor.status()).toMatchObject({ state: "stopped", reason: null });
});

test("how many such starts are enough is a setting", async () => {
  await using engine = await startEngine(
    { argv: ["sh", "-c", BAD_FLAG] },
    { settings: { ...QUICKLY, failuresUntilFailed: 2 } },
  );
  expect((await engine.reaches("failed")).restarts).toBe(1);
});

test("crashes of no lasting kind are tried again for as long as it takes", async () => {
  await using engine = await startEngine(
    { argv: ["sh", "-c", "exit 1"] },
    { settings: { ...QUICKLY } },
  );
  await until(() => engine.supervisor.status().restarts > 6, "restarts");
});

test("on-failure: an exit with 0 is the end, and said so", async () => {
  await using engine = await startEngine(
    { argv: fixture("server", "--announce") },
    { restart: "on-failure" },
  );
  await engine.reaches("ready");
  await tell(engine, "exit/0");
  expect(await engine.supervisor.final).toEqual({
    isDone: true,
    reason: "exited with code 0: ValueError: told to exit",
  });
  expect(engine.supervisor.status()).toMatchObject({ state: "stopped", pid: null, restarts: 0 });
});

test("on-failure: another exit is followed by a restart", async () => {
  await using engine = await startEngine(
    { argv: fixture("server", "--announce") },
    { restart: "on-failure" },
  );
  await engine.reaches("ready");
  await tell(engine, "exit/3");
  await until(() => engine.supervisor.status().restarts === 1, "a restart");
});

test("no: any exit is the end, and a failure; what it left is gone before", async () => {
  await using engine = await startEngine(
    { argv: fixture("server", "--announce", "--child") },
    { restart: "no" },
  );
  await engine.reaches("ready");
  await until(() => engine.lines.some((line) => line.startsWith("grandchild")), "a grandchild");
  const grandchild = Number(engine.lines.find((line) => line.startsWith("grandchild"))?.slice(11));
  await tell(engine, "exit/0");
  expect(await engine.supervisor.final).toMatchObject({ isDone: false });
  expect(await isRunning(grandchild)).toBe(false);
  expect(engine.supervisor.status()).toMatchObject({ state: "failed", restarts: 0 });
  await engine.supervisor.stop();
  expect(engine.supervisor.status().state).toBe("stopped");
});

test("an asked stop is a stop, whatever the code and the mode", async () => {
  const trap = "trap 'exit 9' TERM; echo up; while :; do sleep 0.05; done";
  for (const restart of ["always", "on-failure", "no"] as const) {
    await using engine = await startEngine({ argv: ["sh", "-c", trap] }, { restart });
    await until(() => engine.lines.includes("up"), "its line");
    await engine.supervisor.stop();
    expect(states(engine.changes)).toEqual(["starting", "stopping", "stopped"]);
    expect(engine.supervisor.status().reason).toBeNull();
  }
});

test("a stop signals in order: TERM, one INT, then TERM to all, then the end", async () => {
  const script = [
    "trap 'echo got TERM' TERM; trap 'echo got INT' INT; echo up;",
    "while :; do sleep 0.02; done",
  ].join(" ");
  await using engine = await startEngine(
    { argv: ["sh", "-c", script] },
    { settings: { stopTimeoutMs: 600, interruptTimeoutMs: 600, groupStopTimeoutMs: 600 } },
  );
  await until(() => engine.lines.includes("up"), "its line");
  await engine.supervisor.stop();
  const signals = engine.lines.filter((line) => line.startsWith("got"));
  expect(signals).toEqual(["got TERM", "got INT", "got TERM"]);
});

test("a stop while it is unhealthy ends it", async () => {
  await using engine = await startEngine({ argv: fixture("server", "--announce") });
  const { pid } = await engine.reaches("ready");
  await tell(engine, "health/500");
  await engine.reaches("unhealthy");
  await engine.supervisor.stop();
  expect(await isRunning(pid ?? 0)).toBe(false);
});

test("letting go is final: a later stop leaves the engine alone", async () => {
  await using engine = await startEngine({ argv: fixture("server", "--announce") });
  const { pid } = await engine.reaches("ready");
  await engine.supervisor.release();
  await engine.supervisor.stop();
  expect(await isRunning(pid ?? 0)).toBe(true);
  process.kill(-(pid ?? 0), "SIGKILL");
});
