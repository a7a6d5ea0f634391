/** What the engine tests share: a supervisor in a folder of its own, and waiting for conditions. */

import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { EngineRules, EngineTarget } from "../../src/engine/spec.ts";
import type { EngineState } from "../../src/protocol/engine-report.ts";
import type { EngineStatus } from "../../src/engine/status.ts";
import type { SupervisorOptions } from "../../src/engine/supervise/prepare.ts";
import type { SupervisorSettings } from "../../src/engine/supervise/settings.ts";
import { startSupervisor, type Supervisor } from "../../src/engine/supervise/supervisor.ts";
import { withSpec } from "../helpers/spec.ts";
import { silentLog } from "../../src/util/log.ts";

/** The defaults at a tenth or less, where tests wait for them. */
export const QUICK: Partial<SupervisorSettings> = {
  startProbeMs: 30,
  healthProbeMs: 40,
  modelsMs: 80,
  connectTimeoutMs: 1_000,
  probeTimeoutMs: 1_000,
  backoffFirstMs: 30,
  backoffMaxMs: 200,
  stopTimeoutMs: 1_500,
  groupStopTimeoutMs: 300,
  interruptTimeoutMs: 200,
  killTimeoutMs: 5_000,
  releasePollMs: 20,
  logPollMs: 20,
  treeMs: 50,
};

const FIXTURES = join(import.meta.dir, "fixtures");

/** The command of a fixture program. */
export function fixture(name: string, ...args: string[]): string[] {
  return [process.execPath, join(FIXTURES, `${name}.ts`), ...args];
}

export interface TestEngine extends AsyncDisposable {
  supervisor: Supervisor;
  dir: string;
  engineId: string;
  /** Every status that was reported, in order. */
  changes: EngineStatus[];
  lines: string[];
  /** Settles with the first status from now on, or already there, that is in this state. */
  reaches(state: EngineState): Promise<EngineStatus>;
}

/** Of the supervisor and of its engine's spec, in one. */
export type EngineOptions = Partial<Omit<SupervisorOptions, "engine">> & EngineRules;

export async function startEngine(
  target: EngineTarget,
  options: EngineOptions = {},
  signal?: AbortSignal,
): Promise<TestEngine> {
  const scratch = await scratchFolder();
  const changes: EngineStatus[] = [];
  const lines: string[] = [];
  const engineId = options.engineId ?? `test-${crypto.randomUUID()}`;
  const starting = startSupervisor(
    {
      engineId,
      dir: scratch.path,
      log: silentLog,
      onChange: (status) => void changes.push(status),
      onLine: (line) => void lines.push(line),
      ...withSpec(target, options),
      settings: { ...QUICK, ...options.settings },
    },
    signal,
  );
  const supervisor = await starting.catch(async (error: unknown) => {
    await scratch[Symbol.asyncDispose]();
    throw error;
  });
  return {
    supervisor,
    dir: scratch.path,
    engineId,
    changes,
    lines,
    async reaches(state) {
      await until(() => supervisor.status().state === state, `state ${state}`);
      return supervisor.status();
    },
    async [Symbol.asyncDispose]() {
      await supervisor.stop({ force: AbortSignal.abort() });
      await scratch[Symbol.asyncDispose]();
    },
  };
}

export async function scratchFolder(): Promise<AsyncDisposable & { path: string }> {
  const path = await mkdtemp(join(tmpdir(), "llmnode-engine-"));
  return {
    path,
    [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }),
  };
}

/** Waits until a condition holds; fails after a generous time, naming it. */
export async function until(
  condition: () => boolean | Promise<boolean>,
  what: string,
): Promise<void> {
  const deadline = performance.now() + 15_000;
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`waited in vain for: ${what}`);
    await Bun.sleep(10);
  }
}

/** Whether a process runs; one that has ended but was not collected yet does not. */
export async function isRunning(pid: number): Promise<boolean> {
  const stat = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => null);
  return stat !== null && stat.slice(stat.lastIndexOf(")") + 2, stat.lastIndexOf(")") + 3) !== "Z";
}

/** The pid in a line `grandchild 123`, once it is there. */
export async function grandchildOf(engine: TestEngine): Promise<number> {
  const find = () => engine.lines.find((line) => line.startsWith("grandchild "));
  await until(() => find() !== undefined, "the grandchild's line");
  return Number(find()?.slice("grandchild ".length));
}

/** Tells a fixture server what to do. */
export async function tell(engine: TestEngine, command: string): Promise<void> {
  await fetch(`${engine.supervisor.status().url}/control/${command}`).catch(() => null);
}
