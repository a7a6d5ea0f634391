/** Runs one inference engine, or watches one that already runs, and reports what becomes of it. */

import { LlmnodeError, messageOf } from "../../protocol/errors.ts";
import { type Generation, generateOne } from "../ask/generation-probe.ts";
import { type LoadReader, type LoadSample, startLoadReader } from "../ask/load.ts";
import { describeStall } from "../diagnose/reasons.ts";
import type { EngineStatus } from "../status.ts";
import { superviseAttached } from "./attached.ts";
import { type FinalExit, startLoop, type SupervisorLoop } from "./loop.ts";
import { prepareEngine, type Supervised, type SupervisorOptions } from "./prepare.ts";
import { GONE, type StopSignals } from "./run-engine.ts";
import { readVitalSigns, type VitalSigns } from "./vital-signs.ts";

export interface Supervisor extends AsyncDisposable {
  status(): EngineStatus;
  /** The leading process while it runs; null between runs and for an attached engine. */
  readonly pid: number | null;
  /** What the engine says about its load; null: not known. */
  load(): LoadSample | null;
  /** What its processes show; null between runs and for an attached engine. */
  vitalSigns(): Promise<VitalSigns | null>;
  /** Asks it for one token; null while it does not run. Throws only if `signal` is aborted. */
  generate(timeoutMs: number, signal: AbortSignal): Promise<Generation | null>;
  /**
   * Gives the present run up as stalled, with the reason: it is ended at once, and what follows is
   * what follows any end that nobody asked for. Nothing happens between runs.
   */
  markStalled(reason: string): void;
  /** The key that the engine wants, from its command or environment. A secret: never show it. */
  readonly apiKey: string | null;
  /** Settles if the engine ends for good by itself, as `restart` has it; then nothing is left. */
  readonly final: Promise<FinalExit>;
  /** The run of the worker that had the engine before, while it ran; null: it was started. */
  readonly continues: string | null;
  /** Lets go of the engine: it runs on, for a later supervisor to adopt. */
  release(): Promise<void>;
  /**
   * Ends the engine and everything that it started, gracefully at first; `force` skips to the end.
   * An attached engine is left alone. Safe to call again: later calls wait for the same end.
   */
  stop(options?: { force?: AbortSignal }): Promise<void>;
}

/**
 * Starts the engine and watches it until `stop`. `signal` ends it like `stop` does.
 * Throws LlmnodeError: `engine_not_found`, `engine_not_executable`, `port_in_use`, `usage` (a bad
 * address, command or working directory), `data_dir_unusable`, `shutting_down` (`signal` was
 * aborted before the start); then nothing is left running.
 */
export async function startSupervisor(
  options: SupervisorOptions,
  signal?: AbortSignal,
): Promise<Supervisor> {
  if (signal?.aborted) throw new LlmnodeError("shutting_down", "the engine was not started");
  const stopping = new AbortController();
  const forcing = new AbortController();
  const releasing = new AbortController();
  const signals = {
    stop: stopping.signal,
    force: forcing.signal,
    release: releasing.signal,
  };
  let load: LoadReader | null = null;
  const flowAgeMs = () => load?.flowAgeMs() ?? null;
  const supervised = await supervise(options, { signals, flowAgeMs });
  const { report, settings, log, apiKey, done, final, continues } = supervised;
  const reader = startLoadReader({ status: report.status, apiKey, log, settings: settings.load });
  load = reader;

  const ended = done.catch((error: unknown) => {
    const reason = `the supervision of the engine failed: ${messageOf(error)}`;
    log.error(reason);
    report.dispatch({ type: "gave_up", reason });
    return reason;
  });
  void ended.then(() => reader[Symbol.asyncDispose]());
  const release = async () => {
    releasing.abort();
    await ended;
  };
  const stop = async ({ force }: { force?: AbortSignal } = {}) => {
    if (force?.aborted) forcing.abort();
    force?.addEventListener("abort", () => forcing.abort(), { once: true });
    // It is somebody else's by now.
    if (releasing.signal.aborted) return void (await ended);
    report.dispatch({ type: "stop_asked" });
    stopping.abort();
    const reason = await ended;
    report.dispatch({ type: "ended", reason }, GONE);
  };
  signal?.addEventListener("abort", () => void stop(), { once: true });
  if (signal?.aborted) await stop();

  return {
    apiKey,
    status: report.status,
    load: reader.latest,
    async vitalSigns() {
      const run = supervised.run();
      return run && readVitalSigns(run.launched, report.status().port);
    },
    async generate(timeoutMs, generating) {
      const { url, kind, models } = report.status();
      return url === null
        ? null
        : generateOne({ url, kind, models, apiKey, timeoutMs }, generating);
    },
    markStalled(reason) {
      const run = supervised.run();
      run?.markStalled(
        describeStall("stalled", reason, { kind: report.status().kind, ...run.output() }),
      );
    },
    get pid() {
      return report.status().pid;
    },
    final,
    continues,
    stop,
    release,
    [Symbol.asyncDispose]: () => stop(),
  };
}

/** With what the engine wants as bearer. A secret. */
type Running = Supervised & SupervisorLoop & { apiKey: string | null };

async function supervise(
  options: SupervisorOptions,
  context: { signals: StopSignals; flowAgeMs: () => number | null },
): Promise<Running> {
  const { engine } = options;
  if ("attach" in engine) {
    return { ...(await superviseAttached(engine.attach, options, context)), apiKey: null };
  }
  const prepared = await prepareEngine(engine.argv, options, context.flowAgeMs);
  const loop = await startLoop(prepared, context.signals);
  return { ...prepared, ...loop, apiKey: prepared.argvFacts.apiKey };
}
