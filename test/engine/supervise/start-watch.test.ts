import { expect, test } from "bun:test";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { fixture, isRunning, scratchFolder, startEngine, until } from "../harness.ts";

/** Looks often, and gives up soon. */
const HASTY = {
  startCheckMs: 50,
  startTimeoutMs: 400,
  backoffFirstMs: 60_000,
  backoffMaxMs: 60_000,
};
/** For what must get to work between two looks, on a machine that has much else to do. */
const BEARABLE = { ...HASTY, startTimeoutMs: 2000 };
const MAIN = join(import.meta.dir, "../../../src/main.ts");

function shell(script: string): { argv: string[] } {
  return { argv: ["sh", "-c", script] };
}

function simulated(...flags: string[]): { argv: string[] } {
  return { argv: [process.execPath, MAIN, "sim", "--model", "m", "--port", "0", ...flags] };
}

test("a start that does nothing is ended, with a reason, advice and its last lines", async () => {
  await using engine = await startEngine(shell("echo hello; sleep 1000 & echo $!; wait"), {
    settings: HASTY,
  });
  const ended = await engine.reaches("backoff");
  expect(ended.reason).toMatch(/^no progress while starting: none for 0\.\ds, in phase spawn$/);
  expect(ended.failure).toBe("start_timeout");
  expect(ended.hint).toContain("--start-timeout");
  expect(ended.evidence[0]).toBe("hello");
  // It is not started again over what is left of it.
  const pid = Number(ended.evidence[1]);
  await until(async () => !(await isRunning(pid)), "the end of its child");
});

test("one that hangs after it has said what is wrong is told by that", async () => {
  const words = "requests.exceptions.ConnectTimeout: huggingface.co";
  await using engine = await startEngine(shell(`echo '${words}' >&2; exec sleep 1000`), {
    settings: HASTY,
  });
  const ended = await engine.reaches("backoff");
  expect(ended.failure).toBe("offline");
  expect(ended.reason).toContain("the model hub cannot be reached: requests.exceptions");
  expect(ended.reason).toContain("no progress");
});

test.each([
  ["prints", "while :; do echo line; sleep 0.1; done"],
  ["works", "while :; do :; done"],
])("one that %s goes on for longer than the limit", async (_, script) => {
  await using engine = await startEngine(shell(script), { settings: BEARABLE });
  await Bun.sleep(3_000);
  expect(engine.supervisor.status().state).toBe("starting");
  expect(engine.changes.every((status) => status.state === "starting")).toBe(true);
});

test("without a limit it may take for ever; a ready engine has none", async () => {
  const settings = { ...HASTY, startTimeoutMs: 0 };
  await using patient = await startEngine(shell("exec sleep 1000"), { settings });
  await using ready = await startEngine(
    { argv: fixture("server", "--announce") },
    { settings: HASTY },
  );
  await ready.reaches("ready");
  await Bun.sleep(1_000);
  expect(patient.supervisor.status().state).toBe("starting");
  expect(ready.supervisor.status().state).toBe("ready");
});

test("a download that prints nothing is seen by the growth of the cache, and is progress", async () => {
  await using scratch = await scratchFolder();
  const blobs = join(scratch.path, "hub", "models--org--m", "blobs");
  await mkdir(blobs, { recursive: true });
  const grow = `i=0; while :; do head -c 3000000 /dev/zero >> ${blobs}/x.incomplete; sleep 0.1; done`;
  const argv = ["sh", "-c", `echo "Starting to load model org/m..."; ${grow}`, "org/m"];
  await using engine = await startEngine(
    { argv },
    { settings: BEARABLE, env: { ...process.env, HF_HOME: scratch.path } },
  );
  const phase = () => engine.supervisor.status().phase ?? "";
  await until(() => /^download [\d.]+ MiB$/.test(phase()), "the phase");
  const since = engine.supervisor.status().phaseSince;
  const before = phase();
  await until(() => phase() !== before, "growth");
  expect(phase()).toMatch(/^download [\d.]+ MiB$/);
  expect(engine.supervisor.status().phaseSince).toBe(since);
  expect(since).not.toBeNull();
});

test("a failure stays to be seen until the engine is ready", async () => {
  await using engine = await startEngine(simulated("--fault", "fail=gated"), {
    settings: { backoffFirstMs: 300, backoffMaxMs: 300 },
  });
  const crashed = await engine.reaches("backoff");
  expect(crashed).toMatchObject({ failure: "gated", phaseSince: null });
  expect(crashed.reason).toStartWith("access to the model is refused: ");
  expect(crashed.hint).toContain("https://huggingface.co/m and");
  expect(crashed.evidence.some((line) => line.includes("gated repo"))).toBe(true);
  await until(
    () => engine.changes.some(({ state, restarts }) => state === "starting" && restarts > 0),
    "the next start",
  );
  const again = engine.changes.find(({ state, restarts }) => state === "starting" && restarts > 0);
  expect(again?.failure).toBe("gated");
});

test("an engine that is ready again has no failure", async () => {
  await using engine = await startEngine({ argv: fixture("server", "--announce") });
  await engine.reaches("ready");
  await fetch(`${engine.supervisor.status().url}/control/exit/3`).catch(() => null);
  const isCrash = () => engine.changes.some(({ failure }) => failure === "crash");
  await until(isCrash, "the crash");
  const ready = await engine.reaches("ready");
  expect(ready).toMatchObject({ failure: null, hint: null, evidence: [] });
});
