/** Goes with one run of an engine from its start until nothing of it is left. */

import { messageOf } from "../../protocol/errors.ts";
import type { HostPort } from "../../util/host-port.ts";
import { type Failure, factsOf } from "../failure.ts";
import { type Holder, waitForRelease } from "../process/leftovers.ts";
import { portsOf, reachableHosts } from "../process/network.ts";
import { PRESETS } from "../presets/all.ts";
import { describeExit, type EngineExit } from "../process/process.ts";
import type { PreparedEngine } from "./prepare.ts";
import type { EngineEnd } from "./restart.ts";
import type { EngineRun } from "./run.ts";
import type { EngineKind } from "../status.ts";
import { watchStart } from "./start-watch.ts";
import { releaseOptions } from "./adopt.ts";
import { type FoundEngine, watchEngine } from "./watch.ts";

export interface StopSignals {
  /** End the engine, gracefully. */
  stop: AbortSignal;
  /** End it without grace. */
  force: AbortSignal;
  /** Let go of it, whatever it does. */
  release: AbortSignal;
}

export interface RunEngineOptions {
  signals: StopSignals;
  /** Where the run is known to answer already. */
  address: HostPort | null;
  onReady: (() => void) | undefined;
}

export type RunEnd = { address: HostPort | null } & (
  | { type: "released" }
  /** `held`: what could not be ended or is still held. */
  | ({ type: "ended"; held: readonly Holder[] } & EngineEnd)
);

/** What no longer holds once the process has ended. */
export const GONE = { pid: null, url: null, loopbackOnly: null, models: [] };

type Event =
  | { type: "exit"; exit: EngineExit }
  | { type: "stalled"; failure: Failure }
  | { type: "marked_stalled"; failure: Failure }
  | { type: "stop" }
  | { type: "release" };

/** Restarts are the caller's. */
export async function runEngine(
  engine: PreparedEngine,
  run: EngineRun,
  { signals, address: known, onReady }: RunEngineOptions,
): Promise<RunEnd> {
  const { report, record, argvFacts, settings } = engine;
  const { tree } = run.launched;
  await using reading = run;
  const watching = new AbortController();
  let address = known;
  const watched = watch(engine, reading, {
    address,
    signal: watching.signal,
    onFound(found, kind) {
      address = found;
      record.update({ address: found, kind });
    },
    onReady,
  });
  const starting = watchStart(engine, run, watching.signal);
  const stalled = starting.catch((error: unknown) => {
    // A bug: the process is still supervised without it.
    engine.log.error(`watching the start of the engine: ${messageOf(error)}`);
    return null;
  });
  const event = await nextEvent(run, stalled, signals);
  watching.abort();
  if (event.type === "release") {
    run.launched.release?.();
    await Promise.all([watched, stalled]);
    return { type: "released", address };
  }

  const { kind, state, stateSince } = report.status();
  const readyMs = state === "ready" ? Date.now() - stateSince : 0;
  const isAsked = signals.stop.aborted;
  const failure = isAsked ? null : await reportFailure(engine, run, event);
  const endedAtMs = Date.now();
  record.update({ ending: true });
  const stopTimeoutMs =
    settings.stopTimeoutMs ?? argvFacts.stopTimeoutMs ?? PRESETS[kind].stopTimeoutMs;
  const hasGrace = isAsked || event.type === "stalled";
  const processes = await tree.end({
    stopTimeoutMs: hasGrace ? stopTimeoutMs : 0,
    interruptTimeoutMs: hasGrace ? settings.interruptTimeoutMs : 0,
    groupStopTimeoutMs: hasGrace ? settings.groupStopTimeoutMs : 0,
    killTimeoutMs: settings.killTimeoutMs,
    force: signals.force,
  });
  const release = releaseOptions(engine);
  const held = await waitForRelease({
    ...release,
    processes,
    seen: tree.seen(),
    address,
    // What could not be ended has had its time.
    timeoutMs: processes.length > 0 ? 0 : release.timeoutMs,
    force: signals.force,
  });
  await Promise.all([watched, stalled]);
  const code = event.type === "exit" ? event.exit.code : null;
  const isDeterministic = failure?.deterministic ?? false;
  return { type: "ended", address, held, readyMs, endedAtMs, code, isDeterministic };
}

/** An exit that nobody asked for is a crash, whatever its code; so is a start without progress. */
async function reportFailure(
  { report, log }: PreparedEngine,
  run: EngineRun,
  event: Event,
): Promise<Failure | null> {
  const failure =
    "failure" in event
      ? event.failure
      : event.type === "exit"
        ? await run.explain(report.status().kind, event.exit)
        : null;
  const words = event.type === "exit" ? describeExit(event.exit) : "ended";
  const reason = failure?.reason ?? words;
  report.dispatch({ type: "crashed", reason }, { ...GONE, ...(failure && factsOf(failure)) });
  log.warn(`engine ended: ${reason}`, { hint: failure?.hint || undefined });
  return failure;
}

interface WatchRun extends Omit<RunEngineOptions, "signals"> {
  signal: AbortSignal;
  onFound: (address: HostPort, kind: EngineKind) => void;
}

async function watch(
  engine: PreparedEngine,
  run: EngineRun,
  { address, signal, onFound, onReady }: WatchRun,
): Promise<void> {
  const { report, settings, log } = engine;
  const watching = watchEngine(
    {
      ...engine,
      addresses: async () => (address ? [address] : addressesOf(run, engine)),
      onReady(found: FoundEngine) {
        const { hostname } = new URL(found.url);
        onFound({ host: hostname.replace(/^\[|\]$/g, ""), port: found.port }, found.kind);
        report.dispatch({ type: "answered" }, found);
        onReady?.();
      },
      onWell: () => report.dispatch({ type: "answered" }),
      onModels: (models) => report.update({ models }),
      onFailure({ reason, pending }) {
        report.dispatch({ type: "waiting", reason: pending ? null : reason });
        report.dispatch({ type: "missed", reason, limit: settings.failuresUntilUnhealthy });
      },
    },
    signal,
  );
  // A bug: the process is still supervised without it.
  await watching.catch((error: unknown) => log.error(`watching the engine: ${messageOf(error)}`));
}

/** What ends the quiet time of a run first. */
async function nextEvent(
  run: EngineRun,
  stalled: Promise<Failure | null>,
  { stop, release }: StopSignals,
): Promise<Event> {
  const { promise, resolve } = Promise.withResolvers<Event>();
  const over = new AbortController();
  const on = (signal: AbortSignal, event: Event) => {
    if (signal.aborted) resolve(event);
    signal.addEventListener("abort", () => resolve(event), { once: true, signal: over.signal });
  };
  on(stop, { type: "stop" });
  on(release, { type: "release" });
  void run.launched.process.exited.then((exit) => resolve({ type: "exit", exit }));
  void stalled.then((failure) => {
    if (failure !== null) resolve({ type: "stalled", failure });
  });
  void run.markedStalled.then((failure) => resolve({ type: "marked_stalled", failure }));
  const event = await promise;
  // The signals outlive many runs: nothing of this one may stay with them.
  over.abort();
  return event;
}

/** Most ports of an unknown program that are asked. */
const MAX_PORTS = 8;

/** Most likely first: named in words or flags, by its container, printed, usual, looked up. */
async function addressesOf(run: EngineRun, engine: PreparedEngine): Promise<HostPort[]> {
  const { argvFacts, rules, port: usual } = engine;
  const at = (host: string | null, number: number): HostPort[] =>
    reachableHosts(host).map((name) => ({ host: name, port: number }));
  const named = rules.port ?? argvFacts.port;
  if (named !== null && named !== 0) return at(argvFacts.host, named);
  if (run.launched.addresses) return run.launched.addresses();
  const printed = run.printedAddress();
  if (printed !== null) return at(printed.host, printed.port);
  if (usual !== null) return at(argvFacts.host, usual);
  if (argvFacts.kind !== "generic") return [];
  const processes = await run.launched.tree.refresh();
  const ports = await portsOf(processes.map((entry) => entry.pid));
  return ports.slice(0, MAX_PORTS).flatMap((number) => at(argvFacts.host, number));
}
