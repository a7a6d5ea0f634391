/** Keeps account of one request's tries: what a failure costs, and whether it is tried again. */

import { abortSignalOf, clientGone, type Leaving } from "./client-request.ts";
import { type ErrorCode, LlmnodeError } from "../protocol/errors.ts";
import { type AttemptFailure, failureOf } from "./failure.ts";
import type { Lease, Want } from "./lease.ts";

export interface TriesOptions {
  /** Tries that may fail at engines; what the head moves and what meets no room does not count. */
  maxAttempts: number;
  /** Takes a place in the budget for repeated requests; false when it is used up. */
  mayRetry: () => boolean;
  /** How long a request goes on looking for an engine that has room. */
  roomTimeoutMs: number;
  /** The first pause once every engine has been found busy; each further one is twice as long. */
  backoffMs: number;
  maxBackoffMs: number;
}

export const TRIES_DEFAULTS: TriesOptions = {
  maxAttempts: 3,
  mayRetry: () => true,
  roomTimeoutMs: 60_000,
  backoffMs: 50,
  maxBackoffMs: 2000,
};

/** Refusals that stand, whatever engines have said before. */
const FINAL: ReadonlySet<ErrorCode> = new Set<ErrorCode>(["engine_crashed", "shutting_down"]);

/** Engines that one request may end before nobody else is asked to try it. */
const MAX_DEATHS = 2;

export interface Tries extends Disposable {
  /** What the tries so far mean for the next one. */
  want(): Pick<Want, "exclude" | "minContext">;
  /** Ends the wait for a replica: with the client, or when there was no room for too long. */
  signal(): Leaving;
  /** The head has taken the request away from there. */
  moved(lease: Lease): void;
  /**
   * Whether to try again, told when it is time to. `repeatable`: whether the request can be sent once
   * more. Throws `client_gone`.
   */
  again(failed: { lease: Lease; failure: AttemptFailure; repeatable: boolean }): Promise<boolean>;
  /** What the client gets when no replica is to be had for that reason; throws that where it says more. */
  refused(error: unknown): AttemptFailure;
  /** What the client gets when nothing is tried again. */
  failure(): AttemptFailure;
}

export function createTries(options: TriesOptions, client: Leaving): Tries {
  const exclude: string[] = [];
  /** Engines that the head has taken the request from. */
  const left = new Set<string>();
  /** Engines found busy since the last pause. */
  const busy = new Set<string>();
  /** What replicas have said that a second one was asked about. */
  const opinions = new Set<number | null>();
  let minContext: number | null = null;
  let latest: AttemptFailure | null = null;
  let counted = 0;
  let deaths = 0;
  let pauseMs = options.backoffMs;
  /** Set once some engine had no room: aborts when there was none for too long. */
  let room: AbortController | null = null;
  let timer: ReturnType<typeof setTimeout> | undefined;

  /** An engine without room has not failed: the others first, then it may be asked again. */
  const findRoom = async ({ engine }: Lease): Promise<boolean> => {
    if (room === null) {
      room = new AbortController();
      timer = setTimeout(() => room?.abort(), options.roomTimeoutMs);
    }
    const { signal } = room;
    if (signal.aborted) return false;
    if (!busy.has(engine)) {
      busy.add(engine);
      return true;
    }
    busy.clear();
    busy.add(engine);
    await pause(
      pauseMs * (0.5 + Math.random() / 2),
      AbortSignal.any([abortSignalOf(client), signal]),
    );
    if (client.aborted) throw clientGone();
    pauseMs = Math.min(2 * pauseMs, options.maxBackoffMs);
    return !signal.aborted;
  };

  /** Whether a failure of this kind has anything left that may help. */
  const mayHelp = ({ remedy, status }: AttemptFailure, lease: Lease): boolean => {
    switch (remedy) {
      case "none":
        return false;
      case "another":
      case "room":
        return true;
      case "second_opinion": {
        const isFirst = !opinions.has(status);
        opinions.add(status);
        return isFirst;
      }
      case "longer_context": {
        const isFirst = minContext === null;
        minContext ??= lease.maxModelLen;
        return isFirst && minContext !== null;
      }
    }
  };

  /** An engine's own word on its load is not the cluster's. */
  const lastly = (failure: AttemptFailure): AttemptFailure =>
    failure.outcome === "busy" && room?.signal.aborted === true
      ? failureOf(noRoom(failure), "busy")
      : failure;

  return {
    want: () => ({ exclude: [...exclude], minContext }),
    signal: () => (room === null ? client : AbortSignal.any([abortSignalOf(client), room.signal])),
    // The head gives out no engine that it takes requests from; one that is well again may be the
    // last. What happens twice there may go on for ever.
    moved: ({ engine }) => void (left.has(engine) ? exclude.push(engine) : left.add(engine)),
    async again({ lease, failure, repeatable }) {
      // What an engine has said of the request is worth more than another's broken connection.
      const isWord = latest?.outcome === "rejected" && failure.status === null;
      if (!isWord) latest = failure;
      if (failure.remedy === "room") return repeatable && (await findRoom(lease));
      exclude.push(lease.engine);
      // An engine that had ended before it took the request up has cost nothing.
      if (failure.outcome === "unreachable" && (await isKnown(lease.died()))) return repeatable;
      // Before the next engine gets it: a request that ends engines must not walk through them all.
      if (failure.outcome === "broken" && (await lease.died())) deaths += 1;
      if (client.aborted) throw clientGone();
      if (deaths >= MAX_DEATHS) {
        latest = failureOf(crashed(deaths), "broken");
        return false;
      }
      counted += 1;
      const isLast = counted >= options.maxAttempts;
      return mayHelp(failure, lease) && repeatable && !isLast && options.mayRetry();
    },
    refused(error) {
      if (client.aborted) throw clientGone();
      if (latest === null) throw error;
      if (room?.signal.aborted === true) return lastly(latest);
      // Capacity is for the head to tell, and what it refuses for good as well.
      const isWord = error instanceof LlmnodeError && !FINAL.has(error.code);
      if (latest.outcome === "busy" || !isWord) throw error;
      return latest;
    },
    failure() {
      if (latest === null) throw new Error("nothing has failed");
      return lastly(latest);
    },
    [Symbol.dispose]: () => clearTimeout(timer),
  };
}

/** Whether something is known to be so by now, without waiting for it. */
async function isKnown(answer: Promise<boolean>): Promise<boolean> {
  return await Promise.race([answer, Bun.sleep(0).then(() => false)]);
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, ms);
    if (signal.aborted) end();
    else signal.addEventListener("abort", end);
  });
}

function crashed(deaths: number): LlmnodeError {
  const message = `${deaths} engines have ended while they worked on this request: it is not tried on another.`;
  return new LlmnodeError("engine_crashed", message);
}

function noRoom({ retryAfterMs }: AttemptFailure): LlmnodeError {
  const message = "Every replica that could answer this is busy.";
  return new LlmnodeError("no_ready_replica", message, { retryAfterMs: retryAfterMs ?? 1000 });
}
