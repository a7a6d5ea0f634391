/** Gathers evidence on an engine that the head holds for stalled, and gives it up if it is dead. */

import type { Generation } from "../engine/ask/generation-probe.ts";
import type { EngineStatus } from "../engine/status.ts";
import type { VitalSigns } from "../engine/supervise/vital-signs.ts";
import { messageOf } from "../protocol/errors.ts";
import type { Examine } from "../protocol/messages.ts";
import type { Log } from "../util/log.ts";
import { sleep } from "../util/sleep.ts";
import { formatDuration } from "../util/units.ts";

/**
 * Whether a stalled engine is started again. "auto": where the evidence is sure. A stopped process is;
 * that nothing is done or generated is where the kind of the engine is known, since anything else may
 * do its work elsewhere, or be no engine. "on": on any evidence. One that others run never is.
 */
export type StallRestart = "auto" | "on" | "off";

export interface ExamineSettings {
  /** Between two looks at its processes. */
  lookMs: number;
  /** How long its processes and GPUs must do nothing, ... */
  idleMs: number;
  /** ... where nothing is less than this share of one core. */
  idleShare: number;
  /** How long one token may take, ... */
  generationTimeoutMs: number;
  /** ... and from the start of one try to that of the next. */
  generationEveryMs: number;
  /** Tries that must fail in a row, ... */
  generationsUntilDead: number;
  /** ... over at least so long. */
  failingMs: number;
  /** How long an order of the head holds that it does not repeat. */
  lapseMs: number;
}

export const EXAMINE_DEFAULTS: ExamineSettings = {
  lookMs: 1_000,
  idleMs: 20_000,
  idleShare: 0.005,
  generationTimeoutMs: 60_000,
  generationEveryMs: 60_000,
  generationsUntilDead: 3,
  failingMs: 180_000,
  lapseMs: 30_000,
};

export interface ExaminerOptions {
  status: () => EngineStatus;
  /** Null: it is not ours to look at, or does not run. */
  vitalSigns: () => Promise<VitalSigns | null>;
  generate: (timeoutMs: number, signal: AbortSignal) => Promise<Generation | null>;
  /** The highest utilisation of its GPUs measured since then, by `performance.now()`; null: unknown. */
  gpuPercent: (since: number) => number | null;
  /** Gives the engine up as stalled. */
  markStalled: (reason: string) => void;
  restart: StallRestart;
  settings: Partial<ExamineSettings>;
  log: Log;
}

export interface Examiner extends AsyncDisposable {
  /** Takes an order of the head; the same again only prolongs it. */
  examine(order: Examine): void;
  /** One-token generations that failed in a row; null: none has ended since the head asked. */
  failedGenerations(): number | null;
}

/** What is being examined: one life of the engine, for as long as the head wants it. */
interface Case {
  run: string | null;
  look: boolean;
  ask: boolean;
  over: AbortController;
  /** Ends it unless the head says again that it holds. */
  lapse: Timer | null;
  failed: number | null;
  /** When the first generation of those that failed in a row was begun. */
  failingSince: number | null;
  /** Since when nothing was done, and what had been done by then. */
  idle: { at: number; cpuMs: number; processes: number } | null;
  isJudged: boolean;
  loops: { look: Promise<void> | null; ask: Promise<void> | null };
}

export function createExaminer(options: ExaminerOptions): Examiner {
  const settings = { ...EXAMINE_DEFAULTS, ...options.settings };
  const { log, status } = options;
  let current: Case | null = null;
  const ended = new Set<Promise<void>>();

  const end = () => {
    current?.over.abort();
    clearTimeout(current?.lapse ?? undefined);
    current = null;
  };
  const guarded = (what: Promise<void>, signal: AbortSignal): Promise<void> => {
    const done = what
      .catch((error: unknown) => {
        if (!signal.aborted) log.error(`examining the engine: ${messageOf(error)}`);
      })
      .finally(() => ended.delete(done));
    ended.add(done);
    return done;
  };
  const judge = (on: Case, why: string, isSure: boolean) => {
    if (on.isJudged || on.over.signal.aborted || status().run !== on.run) return;
    on.isJudged = true;
    const isMeant = options.restart === "on" || isSure || status().kind !== "generic";
    if (options.restart === "off" || !isMeant) {
      const hint = `it is not started again, as --stall-restart ${options.restart} says`;
      log.warn(`the engine has stalled: ${why}`, { hint });
      return;
    }
    log.warn(`the engine has stalled, and is started again: ${why}`);
    options.markStalled(why);
  };
  const looking = async (on: Case) => {
    const { signal } = on.over;
    while (!signal.aborted && on.look && status().run === on.run) {
      const signs = await options.vitalSigns();
      if (signs === null || signal.aborted) break;
      if (signs.stopped !== null) judge(on, signs.stopped, true);
      else if (on.ask && isIdle(on, signs, { ...settings, gpuPercent: options.gpuPercent })) {
        const ms = formatDuration(settings.idleMs);
        judge(on, `its processes have done nothing for ${ms}`, false);
      }
      await sleep(settings.lookMs, signal);
    }
    on.loops.look = null;
  };
  const asking = async (on: Case) => {
    const { signal } = on.over;
    while (!signal.aborted && on.ask && status().run === on.run) {
      const begunAt = performance.now();
      const result = await options.generate(settings.generationTimeoutMs, signal);
      if (result === null || signal.aborted) break;
      if (result.outcome === "token") {
        on.failed = 0;
        on.failingSince = null;
      } else if (result.outcome === "failed") {
        on.failed = (on.failed ?? 0) + 1;
        on.failingSince ??= begunAt;
        log.info("the engine was asked for one token in vain", { reason: result.reason });
      } else log.debug(`the engine does not answer a request for one token: ${result.reason}`);
      if (await isFailing(on)) {
        const times = `${on.failed} tokens asked for in a row did not come`;
        judge(on, `${times} (${result.outcome === "failed" ? result.reason : ""})`, false);
      }
      const restMs = begunAt + settings.generationEveryMs - performance.now();
      await sleep(Math.max(0, restMs), signal);
    }
    on.loops.ask = null;
  };
  const isFailing = async (on: Case): Promise<boolean> => {
    const { failed, failingSince } = on;
    if (failingSince === null || (failed ?? 0) < settings.generationsUntilDead) return false;
    if (!on.look || performance.now() - failingSince < settings.failingMs) return false;
    // One that others run is never given up.
    return (await options.vitalSigns()) !== null;
  };

  return {
    examine({ look, ask }) {
      const { run } = status();
      if (current && current.run !== run) end();
      if (!look && !ask) return end();
      current ??= newCase(run);
      const on = current;
      clearTimeout(on.lapse ?? undefined);
      on.lapse = setTimeout(() => {
        if (current === on) end();
      }, settings.lapseMs);
      if (!look || !ask) on.idle = null;
      Object.assign(on, { look, ask });
      const { signal } = on.over;
      if (look) on.loops.look ??= guarded(looking(on), signal);
      if (ask) on.loops.ask ??= guarded(asking(on), signal);
    },
    failedGenerations: () => (current?.run === status().run ? (current?.failed ?? null) : null),
    async [Symbol.asyncDispose]() {
      end();
      await Promise.all(ended);
    },
  };
}

function newCase(run: string | null): Case {
  return {
    run,
    look: false,
    ask: false,
    over: new AbortController(),
    lapse: null,
    failed: null,
    failingSince: null,
    idle: null,
    isJudged: false,
    loops: { look: null, ask: null },
  };
}

/** Notes what was done since the last look; whether that has been nothing for long enough. */
function isIdle(
  on: Case,
  { cpuMs, processes, isReading }: VitalSigns,
  { idleMs, idleShare, gpuPercent }: ExamineSettings & Pick<ExaminerOptions, "gpuPercent">,
): boolean {
  const now = performance.now();
  const { idle } = on;
  const isKnown = cpuMs !== null && idle !== null;
  const hasWorked =
    !isKnown ||
    isReading ||
    processes !== idle.processes ||
    cpuMs < idle.cpuMs ||
    cpuMs - idle.cpuMs > idleMs * idleShare ||
    (gpuPercent(idle.at) ?? 0) > 0;
  if (hasWorked) {
    on.idle = cpuMs === null ? null : { at: now, cpuMs, processes };
    return false;
  }
  return now - idle.at >= idleMs;
}
