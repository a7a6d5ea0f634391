import { expect, test } from "bun:test";
import { fixture, grandchildOf, isRunning, startEngine, tell, until } from "../harness.ts";

test("a grandchild that ignores TERM is gone after a stop", async () => {
  await using engine = await startEngine({ argv: fixture("server", "--announce", "--child") });
  const { pid } = await engine.reaches("ready");
  const grandchild = await grandchildOf(engine);
  expect(await isRunning(grandchild)).toBe(true);
  await engine.supervisor.stop();
  expect(await isRunning(grandchild)).toBe(false);
  expect(await isRunning(pid ?? 0)).toBe(false);
  expect(engine.supervisor.status()).toMatchObject({ state: "stopped", reason: null });
});

test("a grandchild in a session of its own is gone after a stop", async () => {
  await using engine = await startEngine({
    argv: fixture("server", "--announce", "--session-child"),
  });
  await engine.reaches("ready");
  const grandchild = await grandchildOf(engine);
  await engine.supervisor.stop();
  expect(await isRunning(grandchild)).toBe(false);
});

test("what a crashed engine leaves behind is gone before it is started again", async () => {
  await using engine = await startEngine({
    argv: fixture("server", "--announce", "--child"),
  });
  await engine.reaches("ready");
  const grandchild = await grandchildOf(engine);
  const outlived: boolean[] = [];
  const watch = until(async () => {
    if (engine.supervisor.status().restarts === 0) return false;
    outlived.push(await isRunning(grandchild));
    return true;
  }, "a restart");
  await tell(engine, "exit/1");
  await watch;
  expect(outlived).toEqual([false]);
});

test("an orphan in a session of its own, whose parent is gone, is found by its mark", async () => {
  const script = "setsid sh -c 'trap \"\" TERM; echo grandchild $$; exec sleep 60' & exit 1";
  await using engine = await startEngine({ argv: ["sh", "-c", script] });
  const grandchild = await grandchildOf(engine);
  await until(async () => !(await isRunning(grandchild)), "its end");
});

test("an engine that ignores TERM is killed after its time", async () => {
  await using engine = await startEngine(
    { argv: fixture("server", "--announce", "--ignore-term") },
    { settings: { stopTimeoutMs: 150, groupStopTimeoutMs: 100 } },
  );
  const { pid } = await engine.reaches("ready");
  await engine.supervisor.stop();
  expect(engine.lines).toContain("TERM ignored");
  expect(await isRunning(pid ?? 0)).toBe(false);
});

test("force ends the waiting at once, also when it comes later", async () => {
  await using engine = await startEngine(
    { argv: fixture("server", "--announce", "--ignore-term", "--child") },
    { settings: { stopTimeoutMs: 60_000, groupStopTimeoutMs: 60_000 } },
  );
  const { pid } = await engine.reaches("ready");
  const grandchild = await grandchildOf(engine);
  const patient = engine.supervisor.stop();
  await until(() => engine.lines.includes("TERM ignored"), "TERM");
  const force = new AbortController();
  const forced = engine.supervisor.stop({ force: force.signal });
  expect(engine.supervisor.status().state).toBe("stopping");
  force.abort();
  await Promise.all([patient, forced]);
  expect(await isRunning(pid ?? 0)).toBe(false);
  expect(await isRunning(grandchild)).toBe(false);
  await engine.supervisor.stop();
  expect(engine.supervisor.status().state).toBe("stopped");
});

test("a stop while the engine waits for its restart ends the waiting", async () => {
  await using engine = await startEngine(
    { argv: ["sh", "-c", "exit 3"] },
    { settings: { backoffFirstMs: 60_000, backoffMaxMs: 60_000 } },
  );
  await engine.reaches("backoff");
  await engine.supervisor.stop();
  expect(engine.supervisor.status()).toMatchObject({ state: "stopped", restarts: 0 });
});

test("a stop while the engine loads ends it", async () => {
  await using engine = await startEngine({ argv: ["sh", "-c", "echo up; sleep 60"] });
  await until(() => engine.lines.includes("up"), "its line");
  const { pid } = engine.supervisor;
  await engine.supervisor.stop();
  expect(await isRunning(pid ?? 0)).toBe(false);
  expect(engine.changes.map((status) => status.state)).not.toContain("backoff");
});

test("a stopped process (state T) is ended too", async () => {
  await using engine = await startEngine(
    { argv: ["sh", "-c", "echo up; kill -STOP $$"] },
    { settings: { stopTimeoutMs: 100, groupStopTimeoutMs: 100 } },
  );
  await until(() => engine.lines.includes("up"), "its line");
  const { pid } = engine.supervisor;
  await engine.supervisor.stop();
  expect(await isRunning(pid ?? 0)).toBe(false);
});
