/** How a worker leaves: in time for `--until`, and when nothing runs on it any more. */

import { readEngineArgv } from "../engine/argv/argv.ts";
import { PRESETS } from "../engine/presets/all.ts";
import { SUPERVISOR_DEFAULTS } from "../engine/supervise/settings.ts";
import type { EngineKind } from "../engine/status.ts";
import { LlmnodeError } from "../protocol/errors.ts";
import type { HeartbeatAck } from "../protocol/messages.ts";
import type { Log } from "../util/log.ts";
import { sleep } from "../util/sleep.ts";
import { count } from "../util/text.ts";
import { formatDuration } from "../util/units.ts";
import type { Link } from "./link.ts";
import type { WorkerOptions, WorkerSettings } from "./options.ts";

/**
 * How long leaving takes at most, in milliseconds, as long as nothing hangs: requests end, then the
 * engine, unless it is another's and stays. Asked with the kind that the engine turned out to be;
 * null: not known yet.
 */
export function leavingTime(
  worker: WorkerOptions,
  settings: WorkerSettings,
): (kind: EngineKind | null) => number {
  const drainMs = settings.drainTimeoutMs + settings.leaveMarginMs;
  if (!("argv" in worker.engine)) return () => drainMs;
  const supervisor = { ...SUPERVISOR_DEFAULTS, ...settings.supervisor };
  const { argv, env = process.env, cwd } = worker.engine;
  const argvFacts = readEngineArgv(argv, env, { cwd: cwd ?? process.cwd() });
  const restMs = supervisor.interruptTimeoutMs + supervisor.groupStopTimeoutMs;
  return (kind) => {
    const ofKind =
      PRESETS[argvFacts.kind === "generic" ? (kind ?? argvFacts.kind) : argvFacts.kind];
    const stopMs = supervisor.stopTimeoutMs ?? argvFacts.stopTimeoutMs ?? ofKind.stopTimeoutMs;
    return drainMs + stopMs + restMs;
  };
}

/** Throws LlmnodeError `usage` if a worker that starts now would have to leave at once. */
export function checkDeparture(worker: WorkerOptions, settings: WorkerSettings): void {
  const { until = null } = worker;
  if (until === null) return;
  const takesMs = leavingTime(worker, settings)(null);
  const leftMs = until - Date.now();
  if (leftMs > takesMs) return;
  const when = leftMs <= 0 ? "is in the past" : `is in ${formatDuration(leftMs)}`;
  throw new LlmnodeError(
    "usage",
    `the time of --until ${when}, and leaving takes up to ${formatDuration(takesMs)}`,
    { hints: ["choose a later time, or a shorter drain:   --drain-timeout 5s"] },
  );
}

export interface Departure extends Disposable {
  /** Settles when it is time to go. */
  readonly due: Promise<null>;
}

/** By the wall clock, which may be set, and which goes on while a machine sleeps. */
export function awaitDeparture(
  worker: WorkerOptions,
  settings: WorkerSettings,
  kind: () => EngineKind,
): Departure {
  const over = new AbortController();
  const due = Promise.withResolvers<null>();
  const watch = async (until: number) => {
    const takesMs = leavingTime(worker, settings);
    for (;;) {
      const leftMs = until - takesMs(kind()) - Date.now();
      if (leftMs <= 0) break;
      await sleep(Math.min(leftMs, settings.untilPollMs), over.signal);
      if (over.signal.aborted) return;
    }
    const at = new Date(until).toISOString();
    worker.log.info("leaving now, to be stopped in time", { until: at });
    due.resolve(null);
  };
  if (worker.until) void watch(worker.until);
  return { due: due.promise, [Symbol.dispose]: () => over.abort() };
}

export interface DrainOptions {
  link: Link;
  /** The last count of requests here that the head sent in this session. */
  lastAck: () => HeartbeatAck | null;
  log: Log;
  drainTimeoutMs: number;
  drainWithoutHeadMs: number;
  drainPollMs: number;
}

/**
 * Waits until the head has nothing running here any more, time is over, or `force` aborts. The
 * goodbye is the caller's.
 */
export async function waitUntilDrained(options: DrainOptions, force?: AbortSignal): Promise<void> {
  const { link, log, lastAck } = options;
  const started = performance.now();
  let since = link.beat();
  let isLogged = false;
  while (!force?.aborted) {
    const waitedMs = performance.now() - started;
    if (!link.connected) {
      if (waitedMs >= options.drainWithoutHeadMs) return;
      // A new session counts its heartbeats from 1.
      since = 0;
    }
    const ack = lastAck();
    // Only an answer that follows our goodbye counts all requests there can be.
    if (since > 0 && ack && ack.sequence >= since) {
      if (ack.inFlight === 0) return;
      if (!isLogged) log.info(`draining ${count(ack.inFlight, "request")}`);
      isLogged = true;
    }
    if (waitedMs >= options.drainTimeoutMs) {
      log.warn(`${count(ack?.inFlight ?? 0, "request")} did not end in time`);
      return;
    }
    await Bun.sleep(options.drainPollMs);
    const sequence = link.beat();
    since ||= sequence;
  }
}
