/** Who runs on the simulated GPU: the waiting queue, the seats, the cache and the prefills. */

import { BLOCK_TOKENS, createKvCache, type Lease } from "./kv-cache.ts";
import type { ModelMetrics } from "./metrics.ts";
import type { Pacer } from "./pacer.ts";
import { type Prompt, tokensOf } from "./prompt.ts";

export interface Limits {
  /** Sequences that run at once; the others wait. Null: no limit. */
  maxNumSeqs: number | null;
  /** Prompt tokens that are computed in a second, for all requests together. Null: no time at all. */
  prefillRate: number | null;
  /** Tokens that the cache holds. Null: no limit, and nothing is found again. */
  kvTokens: number | null;
}

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

/**
 * First come, first served, everywhere: a request at the head of the queue that does not fit holds
 * back all behind it (vLLM's rule), and prefills are done one after the other, each at the full
 * rate, as the chunks of vLLM's and SGLang's prefills are.
 */
export function createScheduler(limits: Limits, pacer: Pacer): Scheduler {
  const { maxNumSeqs, prefillRate, kvTokens } = limits;
  const cache = kvTokens === null ? null : createKvCache(kvTokens);
  const waiting: Entry[] = [];
  /** The first one is being computed. */
  const prefills: Entry[] = [];
  let prefillEndsAt = 0;
  let jobs = 0;
  let seats = 0;

  const admit = (entry: Entry, now: number): boolean => {
    if (maxNumSeqs !== null && seats + entry.seats > maxNumSeqs) return false;
    const { job, promptTokens } = entry;
    if (cache) {
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
    }
    seats += entry.seats;
    jobs += 1;
    job.metrics.running += 1;
    entry.state = "prefilling";
    job.admitted(now);
    if (prefillRate === null) {
      entry.state = "decoding";
      job.prefilled(now);
    } else {
      prefills.push(entry);
      if (prefills.length === 1) beginPrefill(entry, now);
    }
    return true;
  };

  const beginPrefill = (entry: Entry, at: number) => {
    const tokens = entry.promptTokens - (entry.lease?.cachedTokens ?? 0);
    prefillEndsAt = at + (tokens / (prefillRate ?? Number.POSITIVE_INFINITY)) * 1000;
    pacer.start(endPrefill, prefillEndsAt);
  };

  const endPrefill = (now: number): number | null => {
    if (now < prefillEndsAt) return prefillEndsAt;
    const at = prefillEndsAt;
    const entry = prefills.shift();
    if (entry) {
      entry.state = "decoding";
      entry.job.prefilled(at);
    }
    // From the time it was due, so that the lateness of timers does not add up.
    nextPrefill(at);
    return null;
  };

  const nextPrefill = (at: number) => {
    const [next] = prefills;
    if (next) beginPrefill(next, at);
  };

  const pump = (now: number) => {
    for (let next = waiting[0]; next && admit(next, now); next = waiting[0]) {
      waiting.shift();
      next.job.metrics.waiting -= 1;
    }
  };

  const leave = (entry: Entry, text: () => string | null) => {
    const { job, lease, state } = entry;
    entry.state = "gone";
    const now = performance.now();
    if (state === "waiting") {
      waiting.splice(waiting.indexOf(entry), 1);
      job.metrics.waiting -= 1;
      pump(now);
      return;
    }
    if (state === "prefilling") {
      const at = prefills.indexOf(entry);
      prefills.splice(at, 1);
      if (at === 0) {
        pacer.cancel(endPrefill);
        nextPrefill(now);
      }
    }
    jobs -= 1;
    seats -= entry.seats;
    job.metrics.running -= 1;
    if (cache && lease) {
      const computed = state === "decoding";
      const end = { computed, space: job.model, text: computed ? text() : null };
      job.metrics.kvTokens -= cache.give(lease, end) * BLOCK_TOKENS;
    }
    pump(now);
  };

  return {
    running: () => jobs,
    enter(job) {
      const entry: Entry = {
        job,
        // One that is wider than the engine runs alone.
        seats: Math.min(Math.max(1, job.choices), maxNumSeqs ?? Number.POSITIVE_INFINITY),
        promptTokens: tokensOf(job.prompts),
        state: "waiting",
        lease: null,
      };
      if (waiting.length > 0 || !admit(entry, job.arrivedAt)) {
        waiting.push(entry);
        job.metrics.waiting += 1;
      }
      return {
        get cachedTokens() {
          return cache ? (entry.lease?.cachedTokens ?? 0) : null;
        },
        leave: (text) => {
          if (entry.state !== "gone") leave(entry, text);
        },
      };
    },
  };
}
