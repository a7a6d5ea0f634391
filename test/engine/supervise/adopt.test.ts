import { expect, test } from "bun:test";
import { readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { freePort } from "../../helpers/free-port.ts";
import type { EngineTarget } from "../../../src/engine/spec.ts";
import type { EngineStatus } from "../../../src/engine/status.ts";
import {
  type EngineOptions,
  fixture,
  isRunning,
  QUICK,
  scratchFolder,
  startEngine,
  until,
} from "../harness.ts";
import { processesWithEnvironment, spawnProcess, type TestProcess } from "../../helpers/process.ts";

interface Supervised extends AsyncDisposable {
  process: TestProcess;
  reported: () => Record<string, unknown>[];
  status: () => EngineStatus | null;
  is: (state: string) => Promise<EngineStatus>;
  logged: (text: string) => Promise<void>;
}

type Given = EngineOptions & { target: EngineTarget };

interface Slot extends AsyncDisposable {
  dir: string;
  engineId: string;
  start(given: Given): Supervised;
}

/** A slot's folder; disposing of it ends everything that was started for it. */
async function slot(): Promise<Slot> {
  const scratch = await scratchFolder();
  const engineId = `test-${crypto.randomUUID()}`;
  const all: Supervised[] = [];
  return {
    dir: scratch.path,
    engineId,
    start(given) {
      const supervised = startSupervised({
        dir: scratch.path,
        engineId,
        settings: QUICK,
        ...given,
      });
      all.push(supervised);
      return supervised;
    },
    async [Symbol.asyncDispose]() {
      for (const supervised of all) await supervised[Symbol.asyncDispose]();
      for (const pid of processesWithEnvironment(`LLMNODE_ENGINE_ID=${engineId}`)) {
        process.kill(pid, "SIGKILL");
      }
      await scratch[Symbol.asyncDispose]();
    },
  };
}

function startSupervised(given: object): Supervised {
  const child = spawnProcess([...fixture("supervised"), JSON.stringify(given)]);
  const reported = () =>
    child
      .stdout()
      .split("\n")
      .slice(0, -1)
      .map((line) => JSON.parse(line) as Record<string, unknown>);
  const status = () =>
    (reported().findLast((line) => "status" in line)?.["status"] as EngineStatus | undefined) ??
    null;
  return {
    process: child,
    reported,
    status,
    async is(state) {
      // Before its start is done it does not listen to signals.
      await until(() => reported().some((line) => line["up"]), `its start in ${child.output()}`);
      await until(() => status()?.state === state, `${state} in ${child.output()}`);
      return status() as EngineStatus;
    },
    logged: (text) => until(() => reported().some((line) => line["log"] === text), text),
    [Symbol.asyncDispose]: () => child[Symbol.asyncDispose](),
  };
}

const SERVER = { target: { argv: fixture("server", "--announce") } };
const control = (engine: EngineStatus, what: string) =>
  fetch(`${engine.url}/control/${what}`).catch(() => null);

for (const [how, signal] of [
  ["killed", "SIGKILL"],
  ["asked to hand over", "SIGUSR2"],
] as const) {
  test(`an engine whose worker was ${how} goes on, and the next one takes it over`, async () => {
    await using place = await slot();
    const first = place.start({ ...SERVER, workerRun: "first" });
    const before = await first.is("ready");
    first.process.kill(signal);
    await first.process.finished;
    expect(await isRunning(before.pid ?? 0)).toBe(true);
    expect((await fetch(`${before.url}/health`)).status).toBe(200);

    const second = place.start({ ...SERVER, workerRun: "second" });
    const after = await second.is("ready");
    expect([after.pid, after.run, after.url]).toEqual([before.pid, before.run, before.url]);
    expect([before.adopted, after.adopted, after.restarts]).toEqual([false, true, 0]);
    const up = () => second.reported().find((line) => line["up"]);
    await until(() => up() !== undefined, "the start's end");
    // It is not reported to have started before it has answered, where it had answered before.
    expect(up()).toMatchObject({ continues: "first", status: { state: "ready" } });
    // What it printed for the first worker is not told again.
    expect(second.reported().some((line) => String(line["line"]).includes("Uvicorn"))).toBe(false);

    second.process.kill("SIGTERM");
    await second.process.finished;
    expect(await isRunning(before.pid ?? 0)).toBe(false);
    expect(second.status()?.state).toBe("stopped");
  });
}

test("an engine that was still loading is taken over, and its address found in the log", async () => {
  await using place = await slot();
  const given = { target: { argv: fixture("server", "--announce", "--load", "1000") } };
  const first = place.start(given);
  await until(
    () => first.reported().some((line) => String(line["line"]).includes("Uvicorn")),
    "it",
  );
  first.process.kill("SIGKILL");
  await first.process.finished;
  const { pid } = (await first.is("starting")) ?? {};
  const second = place.start(given);
  expect(await second.is("ready")).toMatchObject({ pid, adopted: true });
});

test("the end of an adopted engine is seen, and followed by a usual restart", async () => {
  await using place = await slot();
  const first = place.start(SERVER);
  const before = await first.is("ready");
  first.process.kill("SIGKILL");
  await first.process.finished;
  const second = place.start(SERVER);
  await second.is("ready");
  await control(before, "exit/7");
  await until(() => second.status()?.restarts === 1, "a restart");
  const after = await second.is("ready");
  expect(after).toMatchObject({ adopted: false, restarts: 1 });
  expect(after.pid).not.toBe(before.pid);
  const crash = second.reported().find((line) => {
    return (line["status"] as EngineStatus | undefined)?.state === "backoff";
  });
  // Its exit code went to a process that is gone; its own words did not.
  expect((crash?.["status"] as EngineStatus).reason).toBe("ended: ValueError: told to exit");
});

test("an adopted engine's children are gone after a stop", async () => {
  await using place = await slot();
  const given = { target: { argv: fixture("server", "--announce", "--session-child") } };
  const first = place.start(given);
  await first.is("ready");
  first.process.kill("SIGKILL");
  await first.process.finished;
  const second = place.start(given);
  await second.is("ready");
  const marked = processesWithEnvironment(`LLMNODE_ENGINE_ID=${place.engineId}`);
  expect(marked.length).toBeGreaterThan(1);
  second.process.kill("SIGTERM");
  await second.process.finished;
  for (const pid of marked) expect(await isRunning(pid)).toBe(false);
});

test("another command ends what the earlier one left, and is told", async () => {
  await using place = await slot();
  const port = String(freePort());
  const first = place.start({
    target: { argv: fixture("server", "--port", port, "--ignore-term") },
  });
  const before = await first.is("ready");
  first.process.kill("SIGKILL");
  await first.process.finished;
  const other = fixture("server", "--port", port, "--models", "other");
  const second = place.start({ target: { argv: other } });
  const after = await second.is("ready");
  expect(after).toMatchObject({ adopted: false, models: [{ id: "other" }] });
  expect(await isRunning(before.pid ?? 0)).toBe(false);
  await second.logged("ending leftovers of an earlier run of this worker");
});

test("without adoption the earlier engine is ended first", async () => {
  await using place = await slot();
  const first = place.start(SERVER);
  const before = await first.is("ready");
  first.process.kill("SIGKILL");
  await first.process.finished;
  const second = place.start({ ...SERVER, adopt: false });
  const after = await second.is("ready");
  expect(after.adopted).toBe(false);
  expect(after.pid).not.toBe(before.pid);
  expect(await isRunning(before.pid ?? 0)).toBe(false);
});

test("what an engine left that died with its worker is found by its mark and ended", async () => {
  await using place = await slot();
  const given = { target: { argv: fixture("server", "--announce", "--session-child") } };
  const first = place.start(given);
  const before = await first.is("ready");
  const marked = processesWithEnvironment(`LLMNODE_ENGINE_ID=${place.engineId}`);
  first.process.kill("SIGKILL");
  await first.process.finished;
  process.kill(before.pid ?? 0, "SIGKILL");
  await until(async () => !(await isRunning(before.pid ?? 0)), "its end");
  const second = place.start(SERVER);
  expect((await second.is("ready")).adopted).toBe(false);
  for (const pid of marked) expect(await isRunning(pid)).toBe(false);
});

test("what an earlier engine holds and nobody can free is a failure; nothing is started over it", async () => {
  await using place = await slot();
  const first = place.start(SERVER);
  const before = await first.is("ready");
  first.process.kill("SIGKILL");
  await first.process.finished;
  let held = [{ pid: before.pid ?? 0, gpu: "GPU-1", memoryBytes: 2 ** 30 }];
  await using second = await startEngine(SERVER.target, {
    dir: place.dir,
    engineId: place.engineId,
    adopt: false,
    computeProcesses: () => Promise.resolve(held),
    settings: { killTimeoutMs: 200 },
  });
  const failed = await second.reaches("failed");
  expect(failed.reason).toContain("holds 1.0 GiB on GPU GPU-1");
  expect([failed.pid, failed.run]).toEqual([null, null]);
  held = [];
  await second.supervisor.stop();
  expect(second.supervisor.status()).toMatchObject({ state: "stopped", reason: null });
});

const spoilt: [string, (record: Record<string, unknown>) => unknown][] = [
  ["of another boot", (record) => ({ ...record, boot_id: "another" })],
  ["of a process with that number at another time", (record) => ({ ...record, start_time: "1" })],
  ["that was being ended", (record) => ({ ...record, ending: true })],
  ["that is cut off", () => undefined],
  ["of another shape", (record) => ({ ...record, pid: "12" })],
];
for (const [what, spoil] of spoilt) {
  test(`a record ${what} adopts nothing, and by the mark nothing is left`, async () => {
    await using place = await slot();
    const first = place.start(SERVER);
    const before = await first.is("ready");
    first.process.kill("SIGKILL");
    await first.process.finished;
    const file = path.join(place.dir, "engine.json");
    const record = JSON.parse(await readFile(file, "utf8")) as Record<string, unknown>;
    await writeFile(file, JSON.stringify(spoil(record)) ?? '{"schema":');
    const second = place.start(SERVER);
    const after = await second.is("ready");
    expect(after.adopted).toBe(false);
    expect(await isRunning(before.pid ?? 0)).toBe(false);
  });
}

test("a process that only has the recorded number is let alone", async () => {
  await using place = await slot();
  const first = place.start(SERVER);
  const before = await first.is("ready");
  first.process.kill("SIGKILL");
  await first.process.finished;
  process.kill(before.pid ?? 0, "SIGKILL");
  await using stranger = spawnProcess(["sleep", "60"]);
  const file = path.join(place.dir, "engine.json");
  const record = JSON.parse(await readFile(file, "utf8")) as object;
  await writeFile(file, JSON.stringify({ ...record, pid: stranger.pid }));
  const second = place.start(SERVER);
  expect((await second.is("ready")).adopted).toBe(false);
  expect(await isRunning(stranger.pid)).toBe(true);
});

test("letting go of an engine that waits for its restart leaves nothing", async () => {
  await using place = await slot();
  const given = {
    target: { argv: ["sh", "-c", "exit 3"] },
    settings: { ...QUICK, backoffFirstMs: 60_000, backoffMaxMs: 60_000 },
  };
  const first = place.start(given);
  await first.is("backoff");
  first.process.kill("SIGUSR2");
  expect((await first.process.finished).code).toBe(0);
  expect(processesWithEnvironment(`LLMNODE_ENGINE_ID=${place.engineId}`)).toEqual([]);
});
