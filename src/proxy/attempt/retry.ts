/** Keeps account of one request's tries: what a failure costs, and whether it is tried again. */

import { Cancellation, clientGone, type CancelSignal, FirstOf } from "../request/client-request.ts";
import { type ErrorCode, LlmnodeError } from "../../protocol/errors.ts";
import { type AttemptFailure, failureOf } from "../answer/failure.ts";
import type { ReplicaRequest } from "../../protocol/replica-request.ts";
import type { Lease } from "../request/lease.ts";

export const RETRY_DEFAULTS = {
  /** Tries that may fail at engines; what the head moves and what meets no room does not count. */
  maxAttempts: 3,
  /** Takes a place in the budget for repeated requests; false when it is used up. */
  mayRetry: (): boolean => true,
  /** How long a request goes on looking for an engine that has room. */
  roomTimeoutMs: 60_000,
  /** The first pause once every engine has been found busy; each further one is twice as long. */
  backoffMs: 50,
  maxBackoffMs: 2000,
};
export type RetryOptions = typeof RETRY_DEFAULTS;

/** Refusals that stand, whatever engines have said before. */
const FINAL: ReadonlySet<ErrorCode> = new Set<ErrorCode>(["engine_crashed", "shutting_down"]);

/** Engines that one request may end before it is not sent to another. */
const MAX_DEATHS = 2;

interface Failed {
  lease: Lease;
  failure: AttemptFailure;
  /** Whether the request can be sent once more. */
  repeatable: boolean;
}

const NONE: readonly string[] = [];

/** A class, and its sets made when something fails: nearly every request has one try, and it is fine. */
export class RetryState implements Disposable {
  readonly #options: RetryOptions;
  readonly #client: CancelSignal;
  #exclude: readonly string[] = NONE;
  /** Engines that the head has taken the request from. */
  #left: Set<string> | null = null;
  /** Engines found busy since the last pause. */
  #busy: Set<string> | null = null;
  /** What replicas have said that a second one was asked about. */
  #opinions: Set<number | null> | null = null;
  #minContext: number | null = null;
  #latest: AttemptFailure | null = null;
  #counted = 0;
  #deaths = 0;
  #pauseMs: number;
  /** Set once some engine had no room: aborts when there was none for too long. */
  #room: Cancellation | null = null;
  /** Aborts with the client too. */
  #either: FirstOf | null = null;
  #timer: ReturnType<typeof setTimeout> | undefined = undefined;

  constructor(options: RetryOptions, client: CancelSignal) {
    this.#options = options;
    this.#client = client;
    this.#pauseMs = options.backoffMs;
  }

  /** What the tries so far mean for the next one. */
  constraints(): Pick<ReplicaRequest, "exclude" | "minContext"> {
    return { exclude: this.#exclude, minContext: this.#minContext };
  }

  /** Ends the wait for a replica: with the client, or when there was no room for too long. */
  signal(): CancelSignal {
    return this.#either ?? this.#client;
  }

  // The head has taken the request away. It gives out no engine that it takes requests from; one that is well again may be the
  // last. What happens twice there may go on for ever.
  moved({ engine }: Lease): void {
    this.#left ??= new Set();
    if (this.#left.has(engine)) this.#exclude = [...this.#exclude, engine];
    else this.#left.add(engine);
  }

  /** Whether to try again, told when it is time to. Throws `client_gone`. */
  async shouldRetry({ lease, failure, repeatable }: Failed): Promise<boolean> {
    // What an engine has said of the request is worth more than another's broken connection.
    const isWord = this.#latest?.outcome === "rejected" && failure.status === null;
    if (!isWord) this.#latest = failure;
    if (failure.remedy === "room") return repeatable && (await this.#findRoom(lease));
    this.#exclude = [...this.#exclude, lease.engine];
    // An engine that had ended before it took the request up has cost nothing.
    if (failure.outcome === "unreachable" && (await isKnown(lease.died()))) return repeatable;
    // Before the next engine gets it: a request that ends engines must not walk through them all.
    if (failure.outcome === "broken" && (await lease.died())) this.#deaths += 1;
    if (this.#client.aborted) throw clientGone();
    if (this.#deaths >= MAX_DEATHS) {
      this.#latest = failureOf(crashed(this.#deaths), "broken");
      return false;
    }
    this.#counted += 1;
    const isLast = this.#counted >= this.#options.maxAttempts;
    return this.#mayHelp(failure, lease) && repeatable && !isLast && this.#options.mayRetry();
  }

  /** What the client gets when no replica is to be had for that reason; throws that where it says more. */
  refused(error: unknown): AttemptFailure {
    if (this.#client.aborted) throw clientGone();
    const latest = this.#latest;
    if (latest === null) throw error;
    if (this.#room?.aborted === true) return this.#lastly(latest);
    // Capacity is for the head to tell, and what it refuses for good as well.
    const isWord = error instanceof LlmnodeError && !FINAL.has(error.code);
    if (latest.outcome === "busy" || !isWord) throw error;
    return latest;
  }

  /** What the client gets when nothing is tried again. */
  failure(): AttemptFailure {
    if (this.#latest === null) throw new Error("nothing has failed");
    return this.#lastly(this.#latest);
  }

  [Symbol.dispose](): void {
    if (this.#timer !== undefined) clearTimeout(this.#timer);
    this.#either?.[Symbol.dispose]();
  }

  /** An engine without room has not failed: the others first, then it may be asked again. */
  async #findRoom({ engine }: Lease): Promise<boolean> {
    const room = (this.#room ??= this.#waitForRoom());
    if (room.aborted) return false;
    this.#busy ??= new Set();
    if (!this.#busy.has(engine)) {
      this.#busy.add(engine);
      return true;
    }
    this.#busy.clear();
    this.#busy.add(engine);
    await pause(this.#pauseMs * (0.5 + Math.random() / 2), this.signal());
    if (this.#client.aborted) throw clientGone();
    this.#pauseMs = Math.min(2 * this.#pauseMs, this.#options.maxBackoffMs);
    return !room.aborted;
  }

  #waitForRoom(): Cancellation {
    const room = new Cancellation();
    this.#either = new FirstOf([this.#client, room]);
    this.#timer = setTimeout(() => room.abort(clientGone()), this.#options.roomTimeoutMs);
    return room;
  }

  /** Whether a failure of this kind has anything left that may help. */
  #mayHelp({ remedy, status }: AttemptFailure, lease: Lease): boolean {
    switch (remedy) {
      case "none":
        return false;
      case "another":
      case "room":
        return true;
      case "second_opinion": {
        this.#opinions ??= new Set();
        const isFirst = !this.#opinions.has(status);
        this.#opinions.add(status);
        return isFirst;
      }
      case "longer_context": {
        const isFirst = this.#minContext === null;
        this.#minContext ??= lease.maxModelLen;
        return isFirst && this.#minContext !== null;
      }
    }
  }

  /** An engine's own word on its load is not the cluster's. */
  #lastly(failure: AttemptFailure): AttemptFailure {
    return failure.outcome === "busy" && this.#room?.aborted === true
      ? failureOf(noRoom(failure), "busy")
      : failure;
  }
}

/** Whether something is known to be so by now, without waiting for it. */
async function isKnown(answer: Promise<boolean>): Promise<boolean> {
  return await Promise.race([answer, Bun.sleep(0).then(() => false)]);
}

function pause(ms: number, signal: CancelSignal): Promise<void> {
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
  const message = `${deaths} engines crashed while they worked on this request: it is not sent to another one.`;
  return new LlmnodeError("engine_crashed", message);
}

function noRoom({ retryAfterMs }: AttemptFailure): LlmnodeError {
  const message = "All replicas that can answer this request are busy.";
  return new LlmnodeError("no_ready_replica", message, { retryAfterMs: retryAfterMs ?? 1000 });
}
