/** The requests that run now: what each is waiting for, without a word of what it says. */

import type { RequestPhase, RequestRow } from "../../protocol/watch-rows.ts";
import type { LiveRequest } from "../../proxy/record/recording.ts";
import type { AttemptRecord, RequestRecord } from "../../proxy/record/record.ts";
import type { Rates } from "./rates.ts";

export interface RequestsTable {
  begun(live: LiveRequest): void;
  /**
   * To be called once for every request that has ended; harmless for those that never began. Gives the
   * output that the rates do not know of yet.
   */
  ended(record: RequestRecord): number;
  /** The oldest first. */
  rows(): RequestRow[];
  /** Ends those with this id; false: there is none. */
  cancel(id: string): boolean;
  /** Adds what has passed since the last call to the rates; to be called every second or so. */
  sample(): void;
  readonly size: number;
}

interface Running {
  live: LiveRequest;
  /** Pieces of its answer that the rates know of. */
  counted: number;
}

/** A prompt's tokens are about its bytes by this, until an engine says it. */
const BYTES_PER_TOKEN = 4;
const MAX_TIMELINE = 16;

/** `now` in milliseconds since 1970, as records have it. */
export function createRequestsTable(options: { now: () => number; rates: Rates }): RequestsTable {
  const { now, rates } = options;
  const running = new Map<RequestRecord, Running>();

  const count = (one: Running, output: number) => {
    const { record } = one.live;
    if (output <= one.counted) return;
    rates.tokens(placeOf(record), output - one.counted);
    one.counted = output;
  };
  return {
    begun(live) {
      running.set(live.record, { live, counted: 0 });
    },
    ended(record) {
      const one = running.get(record);
      if (!one) return 0;
      running.delete(record);
      return Math.max(0, (record.usage?.output ?? record.chunks) - one.counted);
    },
    rows() {
      const at = now();
      return [...running.values()].map(({ live }) => rowOf(live, at));
    },
    cancel(id) {
      const found = [...running.values()].filter(({ live }) => live.record.id === id);
      for (const { live } of found) live.cancel();
      return found.length > 0;
    },
    sample() {
      for (const one of running.values()) count(one, one.live.watch?.chunks ?? 0);
    },
    get size() {
      return running.size;
    },
  };
}

/** Where a request is, or was last; of an alias the model that it led to. */
export function placeOf(record: RequestRecord): { worker: string | null; model: string | null } {
  const last = record.attempts.at(-1);
  return {
    worker: last?.worker ?? null,
    model: last?.model ?? (record.modelKnown ? record.model : null),
  };
}

function rowOf({ record, watch }: LiveRequest, now: number): RequestRow {
  const last = record.attempts.at(-1);
  const phase = phaseOf(record);
  const output = watch?.chunks ?? 0;
  const decodingMs = record.firstByteMs === null ? 0 : now - record.startedAt - record.firstByteMs;
  return {
    id: record.id,
    age_ms: Math.max(0, Math.round(now - record.startedAt)),
    phase,
    path: record.route,
    model: record.model,
    worker: phase === "queued" ? null : (last?.worker ?? null),
    engine: phase === "queued" || !last ? null : `${last.worker}/${last.engine}`,
    key: record.key?.id ?? null,
    stream: record.stream,
    input_tokens:
      record.usage?.input ??
      (record.bytesIn > 0 ? Math.round(record.bytesIn / BYTES_PER_TOKEN) : null),
    output_tokens: output,
    output_tokens_per_s:
      decodingMs >= 500 && output > 1 ? ((output - 1) * 1000) / decodingMs : null,
    ttft_ms: record.firstByteMs === null ? null : Math.round(record.firstByteMs),
    queue_ms: Math.round(phase === "queued" ? now - record.startedAt : record.queueMs),
    attempts: record.attempts.length,
    timeline: timelineOf(record),
  };
}

function phaseOf(record: RequestRecord): RequestPhase {
  if (record.firstByteMs !== null) return "decode";
  const last = record.attempts.at(-1);
  // An attempt that is under way has its end where it began.
  if (!last || last.endedAt > last.startedAt) return "queued";
  return record.attempts.length > 1 ? "retry" : "prefill";
}

function timelineOf(record: RequestRecord): RequestRow["timeline"] {
  const steps = record.attempts.flatMap((attempt) => stepsOf(attempt, record.startedAt));
  return steps.slice(-MAX_TIMELINE);
}

function stepsOf(attempt: AttemptRecord, from: number): RequestRow["timeline"] {
  const { worker, model, startedAt, firstByteAt, endedAt, outcome } = attempt;
  const at = (time: number) => Math.max(0, Math.round(time - from));
  const steps = [{ at_ms: at(startedAt), text: `sent to ${worker} (${model})` }];
  if (firstByteAt !== null)
    steps.push({ at_ms: at(firstByteAt), text: `first token from ${worker}` });
  if (endedAt > startedAt)
    steps.push({ at_ms: at(endedAt), text: `ended at ${worker}: ${outcome}` });
  return steps;
}
