import { expect, test } from "bun:test";
import { freePort } from "../../helpers/free-port.ts";
import { readProcess, type ProcessEntry } from "../../../src/engine/process/proc.ts";
import { whyStopped } from "../../../src/engine/supervise/vital-signs.ts";
import { spawnProcess } from "../../helpers/process.ts";
import { fixture, grandchildOf, isRunning, startEngine, until } from "../harness.ts";

const server = (...flags: string[]) => fixture("server", "--announce", ...flags);

const entry = (pid: number, state: string): ProcessEntry => ({
  pid,
  state,
  parent: 1,
  group: 1,
  session: 1,
  startTime: "1",
});

test.each<[string, ProcessEntry[], ProcessEntry | null, string | null]>([
  ["all well", [entry(1, "S"), entry(2, "R")], entry(1, "S"), null],
  [
    "the leader is stopped",
    [entry(1, "T"), entry(2, "S")],
    entry(1, "T"),
    "its process 1 is stopped",
  ],
  [
    "one inside is stopped",
    [entry(1, "S"), entry(2, "T")],
    entry(1, "S"),
    "its process 2 is stopped",
  ],
  ["a debugger holds it for a moment", [entry(1, "t")], entry(1, "t"), null],
  ["the leader is a zombie", [entry(2, "S")], entry(1, "Z"), "its process 1 is a zombie"],
  ["a child that nobody waited for", [entry(1, "S"), entry(2, "Z")], entry(1, "S"), null],
  ["it waits for its disk", [entry(1, "D")], entry(1, "D"), null],
  ["nothing is to be seen", [], null, null],
])("%s", (_, entries, leader, expected) => {
  expect(whyStopped(entries, leader)).toBe(expected);
});

test("a real zombie is one", async () => {
  // It ends when its parent is a program that waits for no child; the shell itself would.
  await using parent = spawnProcess(["sh", "-c", "sleep 1 & echo child $!; exec sleep 60"]);
  const [, pid = ""] = await parent.waitForLine(/child (\d+)/);
  await until(async () => (await readProcess(Number(pid)))?.state === "Z", "the zombie");
  expect(whyStopped([], await readProcess(Number(pid)))).toBe(`its process ${pid} is a zombie`);
});

test("processor time is known of an engine that is seen to listen", async () => {
  await using engine = await startEngine({ argv: server() });
  await engine.reaches("ready");
  const signs = await engine.supervisor.vitalSigns();
  expect(signs).toMatchObject({ stopped: null, isReading: false });
  expect(signs?.cpuMs).toBeGreaterThanOrEqual(0);
});

test("what runs elsewhere is not judged by the program that leads there", async () => {
  const port = freePort();
  await using engine = await startEngine({ argv: ["sleep", "60"] }, { port });
  await using far = spawnProcess(server("--port", String(port)));
  await far.waitForLine(/Uvicorn/);
  await engine.reaches("ready");
  expect(await engine.supervisor.vitalSigns()).toMatchObject({ stopped: null, cpuMs: null });
});

test("an engine that others run shows nothing", async () => {
  await using far = spawnProcess(server());
  const [, url = ""] = await far.waitForLine(/(http:\/\/127\.0\.0\.1:\d+)/);
  await using engine = await startEngine({ attach: url });
  await engine.reaches("ready");
  expect(await engine.supervisor.vitalSigns()).toBeNull();
  engine.supervisor.markStalled("it is not ours");
  expect(engine.supervisor.status().state).toBe("ready");
});

test("a stopped engine that is given up ends at once, whatever grace its kind has", async () => {
  await using engine = await startEngine(
    { argv: server("--child") },
    { settings: { stopTimeoutMs: 60_000, groupStopTimeoutMs: 60_000 } },
  );
  const { pid, run } = await engine.reaches("ready");
  const grandchild = await grandchildOf(engine);
  process.kill(pid ?? 0, "SIGSTOP");
  await until(
    async () => (await engine.supervisor.vitalSigns())?.stopped === `its process ${pid} is stopped`,
    "the signs",
  );
  engine.supervisor.markStalled(`its process ${pid} is stopped`);
  // A second time means nothing.
  engine.supervisor.markStalled("again");
  await until(() => engine.supervisor.status().restarts === 1, "the restart");
  const ended = engine.changes.find(({ state }) => state === "backoff");
  expect(ended).toMatchObject({
    failure: "stalled",
    reason: `it stopped producing output: its process ${pid} is stopped`,
    pid: null,
  });
  expect(ended?.hint).toContain("--stall-restart off");
  expect(await isRunning(pid ?? 0)).toBe(false);
  expect(await isRunning(grandchild)).toBe(false);
  const again = await engine.reaches("ready");
  expect(again.run).not.toBe(run);
  expect(again.failure).toBeNull();
});

test("with --restart no it is over then, as after any other end", async () => {
  await using engine = await startEngine({ argv: server() }, { restart: "no" });
  await engine.reaches("ready");
  engine.supervisor.markStalled("it does nothing");
  expect(await engine.supervisor.final).toEqual({
    isDone: false,
    reason: "it stopped producing output: it does nothing",
  });
});

test("between two runs there is nothing to look at or to give up", async () => {
  await using engine = await startEngine(
    { argv: server() },
    { settings: { backoffFirstMs: 60_000, backoffMaxMs: 60_000 } },
  );
  await engine.reaches("ready");
  engine.supervisor.markStalled("once");
  await engine.reaches("backoff");
  await until(async () => (await engine.supervisor.vitalSigns()) === null, "its end");
  engine.supervisor.markStalled("twice");
  expect(engine.supervisor.status()).toMatchObject({ state: "backoff", restarts: 0 });
});
