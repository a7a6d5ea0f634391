/** Who runs on the simulated GPU: the waiting queue, the seats, the cache and the prefills. */

import { BLOCK_TOKENS, createKvCache, type KvCache, type Lease } from "./kv-cache.ts";
import type { ModelMetrics } from "./metrics.ts";
import type { SimOptions } from "./options.ts";
import type { Pacer } from "./pacer.ts";
import { type Prompt, tokensOf } from "./prompt.ts";

type Limits = Pick<SimOptions, "maxNumSeqs" | "prefillRate" | "kvTokens">;

export interface Job {
  model: string;
  metrics: ModelMetrics;
  prompts: readonly Prompt[];
  /** Output tokens of all choices, and the number of these. */
  outputTokens: number;
  choices: number;
  /** On the clock of `performance.now()`. */
  arrivedAt: number;
  /** The request has left the queue. */
  admitted(atMs: number): void;
  /** The prefill was done at this time; never called after `leave`. */
  prefilled(atMs: number): void;
}

export interface Ticket {
  /** Null where there is no cache, 0 while it waits. */
  readonly cachedTokens: number | null;
  /** Once. `text`: prompt and answer, for the cache to find again; null for nothing of that. */
  leave(text: () => string | null): void;
}

export interface Scheduler {
  /** Takes a job in; with nothing in its way its callbacks run before this returns. */
  enter(job: Job): Ticket;
  /** Jobs that have left the queue and not ended. */
  running(): number;
}

interface Entry {
  job: Job;
  seats: number;
  promptTokens: number;
  state: "waiting" | "prefilling" | "decoding" | "gone";
  lease: Lease | null;
}

export function createScheduler(limits: Limits, pacer: Pacer): Scheduler {
  return new Queue(limits, pacer);
}

/**
 * First come, first served, everywhere: a request at the head of the queue that does not fit holds
 * back all behind it (vLLM's rule), and prefills are done one after the other, each at the full
 * rate, as the chunks of vLLM's and SGLang's prefills are.
 */
class Queue implements Scheduler {
  readonly #limits: Limits;
  readonly #pacer: Pacer;
  readonly #cache: KvCache | null;
  readonly #waiting: Entry[] = [];
  /** The first one is being computed. */
  readonly #prefills: Entry[] = [];
  #prefillEndsAt = 0;
  #jobs = 0;
  #seats = 0;

  constructor(limits: Limits, pacer: Pacer) {
    this.#limits = limits;
    this.#pacer = pacer;
    this.#cache = limits.kvTokens === null ? null : createKvCache(limits.kvTokens);
  }

  running(): number {
    return this.#jobs;
  }

  enter(job: Job): Ticket {
    const entry: Entry = {
      job,
      // One that is wider than the engine runs alone.
      seats: Math.min(Math.max(1, job.choices), this.#limits.maxNumSeqs ?? Infinity),
      promptTokens: tokensOf(job.prompts),
      state: "waiting",
      lease: null,
    };
    if (this.#waiting.length > 0 || !this.#admit(entry, job.arrivedAt)) {
      this.#waiting.push(entry);
      job.metrics.waiting += 1;
    }
    const hasCache = this.#cache !== null;
    return {
      get cachedTokens() {
        return hasCache ? (entry.lease?.cachedTokens ?? 0) : null;
      },
      leave: (text) => {
        if (entry.state !== "gone") this.#leave(entry, text);
      },
    };
  }

  #admit(entry: Entry, now: number): boolean {
    const { maxNumSeqs, prefillRate } = this.#limits;
    if (maxNumSeqs !== null && this.#seats + entry.seats > maxNumSeqs) return false;
    const { job } = entry;
    if (this.#cache && !takeSpace(this.#cache, entry)) return false;
    this.#seats += entry.seats;
    this.#jobs += 1;
    job.metrics.running += 1;
    entry.state = "prefilling";
    job.admitted(now);
    if (prefillRate === null) {
      entry.state = "decoding";
      job.prefilled(now);
    } else {
      this.#prefills.push(entry);
      if (this.#prefills.length === 1) this.#beginPrefill(entry, now);
    }
    return true;
  }

  #beginPrefill(entry: Entry, at: number): void {
    const tokens = entry.promptTokens - (entry.lease?.cachedTokens ?? 0);
    this.#prefillEndsAt = at + (tokens / (this.#limits.prefillRate ?? Infinity)) * 1000;
    this.#pacer.start(this.#endPrefill, this.#prefillEndsAt);
  }

  readonly #endPrefill = (now: number): number | null => {
    const at = this.#prefillEndsAt;
    if (now < at) return at;
    const entry = this.#prefills.shift();
    if (entry) {
      entry.state = "decoding";
      entry.job.prefilled(at);
    }
    // From the time it was due, so that the lateness of timers does not add up.
    this.#nextPrefill(at);
    return null;
  };

  #nextPrefill(at: number): void {
    const [next] = this.#prefills;
    if (next) this.#beginPrefill(next, at);
  }

  #admitWaiting(now: number): void {
    const waiting = this.#waiting;
    for (let next = waiting[0]; next && this.#admit(next, now); next = waiting[0]) {
      waiting.shift();
      next.job.metrics.waiting -= 1;
    }
  }

  #leave(entry: Entry, text: () => string | null): void {
    const { job, lease, state } = entry;
    entry.state = "gone";
    const now = performance.now();
    if (state === "waiting") {
      this.#waiting.splice(this.#waiting.indexOf(entry), 1);
      job.metrics.waiting -= 1;
      this.#admitWaiting(now);
      return;
    }
    if (state === "prefilling") {
      const at = this.#prefills.indexOf(entry);
      this.#prefills.splice(at, 1);
      if (at === 0) {
        this.#pacer.cancel(this.#endPrefill);
        this.#nextPrefill(now);
      }
    }
    this.#jobs -= 1;
    this.#seats -= entry.seats;
    job.metrics.running -= 1;
    if (this.#cache && lease) {
      const computed = state === "decoding";
      const end = { computed, space: job.model, text: computed ? text() : null };
      job.metrics.kvTokens -= this.#cache.give(lease, end) * BLOCK_TOKENS;
    }
    this.#admitWaiting(now);
  }
}

/** False where the cache has no room for it now. */
function takeSpace(cache: KvCache, entry: Entry): boolean {
  const { job, promptTokens } = entry;
  entry.lease = cache.take({
    space: job.model,
    texts: job.prompts.map((prompt) => prompt.text),
    promptTokens,
    outputTokens: job.outputTokens,
  });
  if (!entry.lease) return false;
  job.metrics.kvTokens += entry.lease.added * BLOCK_TOKENS;
  job.metrics.prefixQueries += promptTokens;
  job.metrics.prefixHits += entry.lease.cachedTokens;
  return true;
}
