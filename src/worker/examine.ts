/** Gathers evidence on an engine that the head considers stalled, and gives it up if it is dead. */

import type { Supervisor } from "../engine/supervise/supervisor.ts";
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

export const EXAMINE_DEFAULTS = {
  /** Between two inspections of its processes. */
  inspectMs: 1_000,
  /** How long its processes and GPUs must do nothing, ... */
  idleMs: 20_000,
  /** ... where nothing is less than this share of one core. */
  idleShare: 0.005,
  /** How long one token may take, ... */
  generationTimeoutMs: 60_000,
  /** ... and from the start of one try to that of the next. */
  generationEveryMs: 60_000,
  /** Tries that must fail in a row, ... */
  generationsUntilDead: 3,
  /** ... over at least this long. */
  failingMs: 180_000,
  /** How long an order of the head holds that it does not repeat. */
  lapseMs: 30_000,
};

export type ExamineSettings = typeof EXAMINE_DEFAULTS;

export interface ExaminerOptions extends Pick<
  Supervisor,
  "status" | "vitalSigns" | "generate" | "markStalled"
> {
  /** The highest utilisation of its GPUs measured since then, by `performance.now()`; null: unknown. */
  gpuPercent: (since: number) => number | null;
  restart: StallRestart;
  settings: Partial<ExamineSettings>;
  log: Log;
}

export interface Examiner extends AsyncDisposable {
  /** Does what the head asks for; the same again only prolongs it. */
  examine(order: Examine): void;
  /** One-token generations that failed in a row; null: none has ended since the head asked. */
  failedGenerations(): number | null;
}

/** What is being examined: one run of the engine, for as long as the head wants it. */
interface Case {
  run: string | null;
  /** Whether its processes are inspected, and whether it is asked for tokens. */
  inspects: boolean;
  generates: boolean;
  over: AbortController;
  /** Ends it unless the head repeats its order. */
  lapse: Timer | null;
  failed: number | null;
  /** When the first generation of those that failed in a row was begun. */
  failingSince: number | null;
  /** Since when nothing was done, and what had been done by then. */
  idle: { at: number; cpuMs: number; processes: number } | null;
  isJudged: boolean;
  loops: { inspect: Promise<void> | null; generate: Promise<void> | null };
}

export function createExaminer(options: ExaminerOptions): Examiner {
  const settings = { ...EXAMINE_DEFAULTS, ...options.settings };
  const means: Means = { ...options, settings };
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
      Object.assign(on, { inspects: look, generates: ask });
      const { signal } = on.over;
      if (look) on.loops.inspect ??= guarded(inspectProcesses(on, means), signal);
      if (ask) on.loops.generate ??= guarded(tryGenerations(on, means), signal);
    },
    failedGenerations: () => (current?.run === status().run ? (current?.failed ?? null) : null),
    async [Symbol.asyncDispose]() {
      end();
      await Promise.all(ended);
    },
  };
}

type Means = Omit<ExaminerOptions, "settings"> & { settings: ExamineSettings };

async function inspectProcesses(on: Case, means: Means): Promise<void> {
  const { settings, gpuPercent } = means;
  const { signal } = on.over;
  while (!signal.aborted && on.inspects && means.status().run === on.run) {
    const signs = await means.vitalSigns();
    if (signs === null || signal.aborted) break;
    if (signs.stopped !== null) judge(on, means, { why: signs.stopped, isSure: true });
    else if (on.generates && isIdle(on, signs, { ...settings, gpuPercent })) {
      const why = `its processes have done nothing for ${formatDuration(settings.idleMs)}`;
      judge(on, means, { why, isSure: false });
    }
    await sleep(settings.inspectMs, signal);
  }
  on.loops.inspect = null;
}

async function tryGenerations(on: Case, means: Means): Promise<void> {
  const { settings, log } = means;
  const { signal } = on.over;
  while (!signal.aborted && on.generates && means.status().run === on.run) {
    const begunAt = performance.now();
    const result = await means.generate(settings.generationTimeoutMs, signal);
    if (result === null || signal.aborted) break;
    if (result.outcome === "token") {
      on.failed = 0;
      on.failingSince = null;
    } else if (result.outcome === "failed") {
      on.failed = (on.failed ?? 0) + 1;
      on.failingSince ??= begunAt;
      log.info("the engine was asked for one token and failed", {
        reason: result.reason,
      });
    } else log.debug(`the engine does not answer a request for one token: ${result.reason}`);
    // One that others run is never given up.
    if (isFailing(on, settings) && (await means.vitalSigns()) !== null) {
      const reason = result.outcome === "failed" ? result.reason : "";
      const why = `${on.failed} requests for one token failed in a row (${reason})`;
      judge(on, means, { why, isSure: false });
    }
    const restMs = begunAt + settings.generationEveryMs - performance.now();
    await sleep(Math.max(0, restMs), signal);
  }
  on.loops.generate = null;
}

function isFailing({ failed, failingSince, inspects }: Case, settings: ExamineSettings): boolean {
  if (failingSince === null || (failed ?? 0) < settings.generationsUntilDead) return false;
  return inspects && performance.now() - failingSince >= settings.failingMs;
}

/** Gives the engine up, once, if `--stall-restart` allows that on such evidence. */
function judge(
  on: Case,
  { status, restart, log, markStalled }: Means,
  { why, isSure }: { why: string; isSure: boolean },
): void {
  if (on.isJudged || on.over.signal.aborted || status().run !== on.run) return;
  on.isJudged = true;
  const isEnough = restart === "on" || isSure || status().kind !== "generic";
  if (restart === "off" || !isEnough) {
    log.warn(`the engine has stalled: ${why}`, {
      hint: `it is not started again, as --stall-restart ${restart} says`,
    });
    return;
  }
  log.warn(`the engine has stalled, and is started again: ${why}`);
  markStalled(why);
}

function newCase(run: string | null): Case {
  return {
    run,
    inspects: false,
    generates: false,
    over: new AbortController(),
    lapse: null,
    failed: null,
    failingSince: null,
    idle: null,
    isJudged: false,
    loops: { inspect: null, generate: null },
  };
}

/** Notes what was done since the last inspection; whether that has been nothing for long enough. */
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
