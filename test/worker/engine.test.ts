import { expect, test } from "bun:test";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import type { EngineRules } from "../../src/engine/spec.ts";
import type { EngineStatus } from "../../src/engine/status.ts";
import { silentLog } from "../../src/util/log.ts";
import { type WorkerEngine, startWorkerEngine } from "../../src/worker/engine.ts";
import { WORKER_DEFAULTS, type WorkerOptions } from "../../src/worker/options.ts";
import { isRunning } from "../helpers/process.ts";
import { tempDir } from "../helpers/temp.ts";
import { waitFor } from "../helpers/wait.ts";

interface Started {
  engine: WorkerEngine;
  changes: EngineStatus[];
}

async function start(dir: string, argv: string[], more: EngineRules = {}): Promise<Started> {
  const changes: EngineStatus[] = [];
  const worker: WorkerOptions = {
    head: { host: "127.0.0.1", port: 1 },
    insecure: true,
    joinToken: null,
    name: null,
    labels: {},
    data: "auto",
    advertise: null,
    dataDir: dir,
    version: "0",
    log: silentLog,
    printLine: () => undefined,
    engine: { argv, ...more },
  };
  const supervisor = { backoffFirstMs: 1, backoffMaxMs: 2, logPollMs: 20, stopTimeoutMs: 300 };
  const engine = await startWorkerEngine({
    worker,
    settings: { ...WORKER_DEFAULTS, supervisor: { ...supervisor, interruptTimeoutMs: 100 } },
    dir,
    engineId: `test-${crypto.randomUUID()}`,
    workerRun: "run",
    computeProcesses: () => Promise.resolve(null),
    onChange: (status) => void changes.push(status),
  });
  return { engine, changes };
}

/** A program that fails for a lasting reason until there is a file called `mended` beside it. */
function brokenProgram(dir: string): string[] {
  const file = path.join(dir, "engine.sh");
  const mended = path.join(dir, "mended");
  writeFileSync(
    file,
    `#!/bin/sh\nif [ -e ${mended} ]; then exec sleep 60; fi\n` +
      "echo 'vllm: error: unrecognized arguments: --x' >&2; exit 2\n",
    { mode: 0o755 },
  );
  return [file];
}

test("a failed engine is started again when somebody asks", async () => {
  using dir = tempDir();
  const { engine } = await start(dir.path, brokenProgram(dir.path));
  await using _ = engine;
  await waitFor(() => engine.status().state === "failed");
  mkdirSync(path.join(dir.path, "mended"));
  await Promise.all([engine.restart("mended"), engine.restart("mended, I say")]);
  expect(engine.status()).toMatchObject({ state: "starting", restarts: 0 });
  expect(isRunning(engine.status().pid ?? 0)).toBe(true);
});

test("an engine that cannot be started again stays down, and may be asked for once more", async () => {
  using dir = tempDir();
  const argv = brokenProgram(dir.path);
  mkdirSync(path.join(dir.path, "mended"));
  const { engine } = await start(dir.path, argv);
  await using _ = engine;
  rmSync(argv[0] ?? "");
  await engine.restart("try");
  expect(engine.status().state).toBe("stopped");
  brokenProgram(dir.path);
  await engine.restart("try again");
  expect(engine.status().state).toBe("starting");
});

test("a forced stop ends a restart that waits for a stubborn engine", async () => {
  using dir = tempDir();
  const script = "trap '' TERM INT; while :; do sleep 0.1; done";
  const { engine } = await start(dir.path, ["sh", "-c", script], {});
  const { pid } = engine.status();
  const restarting = engine.restart("slow");
  await engine.stop(AbortSignal.abort());
  await restarting;
  expect(isRunning(pid ?? 0)).toBe(false);
  expect(engine.status().state).toBe("stopped");
});

test("an asked restart is no end of the worker, whatever the mode", async () => {
  using dir = tempDir();
  const { engine } = await start(dir.path, ["sleep", "60"], { restart: "no" });
  await using _ = engine;
  const before = engine.status().pid;
  await engine.restart("asked");
  expect(engine.status().pid).not.toBe(before);
  const first = await Promise.race([engine.ended.then(() => "ended"), Bun.sleep(50)]);
  expect(first).toBeUndefined();
});
