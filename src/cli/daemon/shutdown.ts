/** The life of a command that runs until it is stopped: signals, second thoughts, and bugs. */

import type { LlmnodeError } from "../../protocol/errors.ts";
import type { Log } from "../../util/log.ts";
import { sleep } from "../../util/sleep.ts";
import { EXIT } from "../base/exit-codes.ts";

export interface Stoppable {
  /** Graceful until `force` aborts. */
  stop(options?: { force?: AbortSignal }): Promise<void>;
  /** Settles when it ends by itself; an error is why. */
  readonly ended?: Promise<LlmnodeError | null>;
}

/** Another way than `stop` to end what runs. */
export interface Ending<T> {
  /** What is told, such as "handing over". */
  farewell: string;
  /** Graceful until `force` aborts. */
  end(running: T, options: { force: AbortSignal }): Promise<void>;
}

export interface DaemonOptions<T extends Stoppable> {
  log: Log;
  start: () => Promise<T>;
  /** Aborted by a signal that comes before `start` is done, where `start` knows how to give up. */
  abandonStart?: AbortController;
  started: (running: T) => void;
  /** What is told on the first signal, such as "draining 3 requests". */
  farewell: (running: T) => string;
  /** Signals that are told but otherwise ignored. */
  ignore?: readonly NodeJS.Signals[];
  /** Signals that mean something else to it once it runs; until then they are let pass. */
  onSignal?: Partial<Record<NodeJS.Signals, (running: T) => void>>;
  /** Signals that end it in a way of their own; they are never a second thought. */
  endings?: Partial<Record<NodeJS.Signals, Ending<T>>>;
  /** A signal so soon after the first is the same one come twice. Default 200 ms. */
  echoMs?: number;
  /** How long a process with a bug may take to end what it started. Default 15 s. */
  bugStopMs?: number;
}

interface Life<T extends Stoppable> {
  running: T | null;
  /** How often a person or program has asked it to stop, and when first. */
  asked: number;
  firstAt: number;
  bugs: number;
  force: AbortController;
  stopAsked: PromiseWithResolvers<Ending<T> | null>;
  bug: PromiseWithResolvers<"bug">;
}

/**
 * Runs until SIGINT, SIGTERM, SIGHUP or one of `endings`, then stops gracefully; a second SIGINT or
 * SIGTERM forces, a third leaves at once. Returns the exit code: 0 however it was stopped, 70 after an error that
 * nobody caught. Throws what `start` throws, and the error that a running thing ended with.
 */
export async function runDaemon<T extends Stoppable>(options: DaemonOptions<T>): Promise<number> {
  const life: Life<T> = {
    running: null,
    asked: 0,
    firstAt: 0,
    bugs: 0,
    force: new AbortController(),
    stopAsked: Promise.withResolvers(),
    bug: Promise.withResolvers(),
  };
  using _ = listen(life, options);
  const thing = await Promise.race([startUnlessAsked(options), life.bug.promise]);
  if (thing === "bug") return EXIT.internal;
  if (thing === null) return EXIT.ok;
  life.running = thing;
  if (life.asked === 0) options.started(thing);
  const ended = thing.ended?.then((error) => ({ error }));
  const first = await Promise.race([
    life.stopAsked.promise.then((ending) => ({ ending })),
    life.bug.promise,
    ...(ended === undefined ? [] : [ended]),
  ]);
  if (first === "bug") {
    await stopBroken(thing, life.force, options.bugStopMs ?? 15_000);
    return EXIT.internal;
  }
  const force = life.force.signal;
  if ("ending" in first && first.ending !== null) await first.ending.end(thing, { force });
  else await thing.stop({ force });
  if ("error" in first && first.error !== null) throw first.error;
  return life.bugs === 0 ? EXIT.ok : EXIT.internal;
}

/** Null when it was asked to stop before it had started. */
async function startUnlessAsked<T extends Stoppable>(options: DaemonOptions<T>): Promise<T | null> {
  try {
    return await options.start();
  } catch (error) {
    if (options.abandonStart?.signal.aborted === true) return null;
    throw error;
  }
}

/** What it started must not outlive it, but a broken process may not manage that either. */
async function stopBroken(thing: Stoppable, force: AbortController, limitMs: number) {
  force.abort();
  const stopped = new AbortController();
  const stop = thing.stop({ force: force.signal }).finally(() => stopped.abort());
  await Promise.race([stop, sleep(limitMs, stopped.signal)]);
}

function listen<T extends Stoppable>(life: Life<T>, options: DaemonOptions<T>): Disposable {
  const signals: NodeJS.Signals[] = [
    ...(["SIGINT", "SIGTERM", "SIGHUP"] as const),
    ...(["SIGUSR1", "SIGUSR2"] as const).filter((signal) => options.endings?.[signal]),
  ];
  const onSignal = (signal: NodeJS.Signals) => takeSignal(signal, life, options);
  const onBug = (error: unknown) => {
    const known = error instanceof Error;
    options.log.error("internal error: this is a bug in llmnode", {
      id: crypto.randomUUID().slice(0, 8),
      error: known ? `${error.name}: ${error.message}` : String(error),
      stack: known ? error.stack : undefined,
    });
    life.bugs += 1;
    life.bug.resolve("bug");
  };
  for (const signal of signals) process.on(signal, onSignal);
  process.on("uncaughtException", onBug);
  process.on("unhandledRejection", onBug);
  return {
    [Symbol.dispose]() {
      for (const signal of signals) process.off(signal, onSignal);
      process.off("uncaughtException", onBug);
      process.off("unhandledRejection", onBug);
    },
  };
}

function takeSignal<T extends Stoppable>(
  signal: NodeJS.Signals,
  life: Life<T>,
  options: DaemonOptions<T>,
): void {
  const { log } = options;
  if (options.ignore?.includes(signal) === true) {
    log.info(`${signal} is ignored, as told`);
    return;
  }
  const other = options.onSignal?.[signal];
  if (other) {
    if (life.running !== null) other(life.running);
    return;
  }
  // A closing terminal sends SIGHUP twice, and service managers send it along with SIGTERM:
  // it never counts as somebody's second thought.
  const ending = options.endings?.[signal] ?? null;
  if (life.asked > 0 && (signal === "SIGHUP" || ending !== null)) return;
  // `timeout`, `npm run` and the like pass on a Ctrl-C that the terminal has sent here as well.
  const now = performance.now();
  if (life.asked === 1 && now - life.firstAt < (options.echoMs ?? 200)) return;
  life.asked += 1;
  if (life.asked === 1) {
    life.firstAt = now;
    const { running } = life;
    const farewell = running === null ? "stopping once it has started" : options.farewell(running);
    log.info(`${ending?.farewell ?? farewell}, Ctrl-C again to stop now`);
    life.stopAsked.resolve(ending);
    if (running === null) options.abandonStart?.abort();
  } else if (life.asked === 2) {
    log.warn("stopping now");
    life.force.abort();
  } else {
    process.exit(EXIT.failure);
  }
}
