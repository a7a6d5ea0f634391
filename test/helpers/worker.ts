/** Real workers inside the test process, with the simulated engine as their engine. */

import path from "node:path";
import type { WorkerOptions } from "../../src/worker/options.ts";
import { startWorker, type Worker } from "../../src/worker/worker.ts";
import type { EngineRules } from "../../src/engine/spec.ts";
import { withSpec } from "./spec.ts";
import { memoryLog, type TestHead } from "./cluster.ts";

export { type TempDir, tempDir } from "./temp.ts";

export interface TestWorker extends AsyncDisposable {
  readonly worker: Worker;
  /** The worker's own log. */
  readonly log: string[];
  /** What the engine printed. */
  readonly output: string[];
}

/** Of the worker and of its engine's spec, in one. */
export type TestWorkerOptions = Partial<WorkerOptions> & EngineRules;

/** The program under test from its sources. */
export const SELF = [process.execPath, path.resolve(import.meta.dir, "../../src/main.ts")];

/** The simulated engine on a free port, quick. */
export function sim(...flags: string[]): string[] {
  const quick = ["--port", "0", "--ttft", "5ms", "--itl", "2ms"];
  return ["llmnode", "sim", ...quick, ...flags];
}

export async function startTestWorker(
  head: TestHead,
  dataDir: string,
  { engine = { argv: sim("--model", "m") }, ...options }: TestWorkerOptions = {},
): Promise<TestWorker> {
  const { log, lines } = memoryLog();
  const output: string[] = [];
  const worker = await startWorker({
    head: head.head.sessionAddress,
    insecure: true,
    joinToken: head.head.joinToken(),
    name: null,
    labels: {},
    data: "auto",
    advertise: null,
    dataDir,
    version: "0.0.0-test",
    log,
    printLine: (line) => void output.push(line),
    ...withSpec(engine, { env: process.env, selfCommand: SELF, ...options }),
    settings: {
      link: { reconnectFirstMs: 50, reconnectMaxMs: 500, welcomeTimeoutMs: 1000 },
      supervisor: {
        startProbeMs: 50,
        backoffFirstMs: 50,
        logPollMs: 20,
        modelsMs: 100,
        healthProbeMs: 100,
      },
      drainPollMs: 20,
      drainWithoutHeadMs: 300,
      ...options.settings,
    },
  });
  return { worker, log: lines, output, [Symbol.asyncDispose]: () => worker[Symbol.asyncDispose]() };
}
