/** Looks for a replica that goes on with a begun answer, and has it do so. */

import type { CancelSignal } from "../request/client-request.ts";
import { connectionFailure } from "../answer/failure.ts";
import { errorIn, readFirst } from "../answer/first-frame.ts";
import { formatOf } from "../record/frames.ts";
import type { AttemptScope, BegunAnswer, Source } from "../attempt/scope.ts";
import type { LeaseOutcome, ReplicaRequest } from "../../protocol/replica-request.ts";
import type { Acquire, Lease } from "../request/lease.ts";
import type { AttemptRecord, ResumeResult } from "../record/record.ts";
import type { ChunkReader } from "../answer/relay.ts";
import type { AnswerSoFar } from "./answer.ts";
import { continuationBody, type ResumableBody } from "./body.ts";
import { type Ask, checkContinuation, type Measure } from "./check.ts";
import { bytesReader, closingFrames, OtherContentError, spliceReader } from "./splice.ts";

/** What the proxy does for an attempt at a replica. */
export interface ResumeAttempts extends Pick<BegunAnswer, "headers" | "startScope"> {
  /** The path at the engine with its query. */
  path: string;
  /** What a replica must be, without those that were tried before. */
  wanted: ReplicaRequest;
  startAttempt: (lease: Lease) => AttemptRecord;
}

/** A replica that is being looked for. */
export interface Search {
  acquire: Acquire;
  now: () => number;
  maxTries: number;
  attempts: ResumeAttempts;
  client: CancelSignal;
  broken: Lease;
  request: ResumableBody;
  answer: AnswerSoFar;
  /** Engine runs, each with a model, that are known not to go on rightly. */
  refusing: Set<string>;
  /** Aborts with the stream's end and with the time for it. */
  signal: AbortSignal;
  /** Called with the scope of every attempt, and with null at its end. */
  onScope: (scope: AttemptScope | null) => void;
}

/** Engines that continue a begun answer as `continue_final_message` asks; the simulated one plays them. */
export const RESUME_KINDS: readonly string[] = ["vllm", "sglang", "sim"];
/** Pairs of an engine's run and a model that are remembered not to continue answers. */
const MAX_REFUSING = 1000;
const encoder = new TextEncoder();

export type Found = { source: Source; reader: ChunkReader } | { result: ResumeResult };

/** Asks one replica after the other until one takes it, or says what no other would say otherwise. */
export async function search(on: Search): Promise<Found> {
  const { signal, broken } = on;
  const { wanted: first } = on.attempts;
  const exclude = [...first.exclude, broken.engine];
  const kinds = first.kinds?.filter((kind) => RESUME_KINDS.includes(kind)) ?? RESUME_KINDS;
  for (let tries = 0; tries < on.maxTries; tries += 1) {
    let lease: Lease;
    try {
      const { model } = broken;
      const wanted = { ...first, model, fallbacks: [], kinds, exclude: [...exclude] };
      lease = await on.acquire(wanted, signal);
    } catch {
      // Whatever the reason is: the client hears of the break, which came first.
      return { result: "no_replica" };
    }
    const found = await tryAt(on, lease);
    if (found !== "elsewhere") return found;
    exclude.push(lease.engine);
  }
  return { result: "failed" };
}

async function tryAt(on: Search, lease: Lease): Promise<Found | "elsewhere"> {
  const { attempts, signal } = on;
  const record = attempts.startAttempt(lease);
  const scope = attempts.startScope(lease, record);
  const abort = () => scope.abort();
  signal.addEventListener("abort", abort);
  on.onScope(scope);
  const lost = (outcome: LeaseOutcome, found: Found | "elsewhere") => {
    if (!signal.aborted) scope.done(outcome);
    // The time is over; with the stream itself it has been given back already.
    else scope.done(on.client.aborted ? "client_gone" : "rescheduled");
    scope.abort();
    on.onScope(null);
    return found;
  };
  try {
    if (signal.aborted) return lost("rescheduled", { result: "failed" });
    const measure = await measureAt(on, { lease, record, scope });
    if (measure === null) return lost("rescheduled", { result: "not_possible" });
    const { maxTokens } = on.request;
    const { produced } = measure;
    const begun = { answer: on.answer, produced };
    const tokensLeft = maxTokens === null ? null : maxTokens - produced;
    if (on.answer.isFinished || (tokensLeft !== null && tokensLeft <= 0)) {
      return {
        source: { lease, scope },
        reader: bytesReader(closingFrames(on.request, begun, measure)),
      };
    }
    const body = continuationBody(on.request, { text: on.answer.text, tokensLeft });
    const response = await post(on, { lease, record, scope }, { path: attempts.path, body });
    record.status = response.status;
    if (response.status !== 200 || formatOf(response.headers) !== "sse" || !response.body) {
      const busy = response.status === 429 || response.status === 503;
      if (busy) return lost("busy", "elsewhere");
      return lost(response.status < 500 ? "rejected" : "engine_error", { result: "failed" });
    }
    const reader: ChunkReader = response.body.getReader();
    const first = await readFirst(reader, "sse");
    const refused = first && errorIn(first, { format: "sse", dialect: "openai" });
    if (first === null || refused) {
      return lost(refused?.outcome ?? "broken", { result: "failed" });
    }
    // Up to the first text: what is no text would be noticed too late otherwise.
    const spliced = spliceReader(reader, first, begun);
    const { value } = await spliced.read();
    if (value === undefined) return lost("broken", { result: "failed" });
    lease.started();
    record.firstByteAt = on.now();
    return { source: { lease, scope }, reader: bytesReader(value, spliced) };
  } catch (error) {
    if (error instanceof OtherContentError) {
      refuse(on, lease);
      return lost("rejected", { result: "not_possible" });
    }
    const isOver = signal.aborted || scope.isLate();
    // What the head takes away before its first data may go on at any other.
    if (scope.signal.aborted)
      return lost("rescheduled", isOver ? { result: "failed" } : "elsewhere");
    const { outcome } = connectionFailure(error, "engine");
    return lost(outcome, outcome === "unreachable" ? "elsewhere" : { result: "failed" });
  }
}

interface Trying extends Source {
  record: AttemptRecord;
}

/** Null where the engine would not go on rightly. Throws what the way throws. */
async function measureAt(on: Search, trying: Trying): Promise<Measure | null> {
  const { text } = on.answer;
  // The whole request is simply made again.
  if (text === "") return { prompt: 0, produced: 0 };
  if (on.refusing.has(keyOf(trying.lease))) return null;
  const ask: Ask = async (path, body) => {
    const response = await post(on, trying, { path, body });
    return response.status === 200 ? response : null;
  };
  const checked = await checkContinuation(ask, on.request, text);
  if (checked.kind === "ok") return checked.measure;
  if (checked.kind === "never") refuse(on, trying.lease);
  return null;
}

function refuse({ refusing }: Search, lease: Lease): void {
  // Runs of engines that have long ended may stay in the set: it is cleared when it grows.
  if (refusing.size >= MAX_REFUSING) refusing.clear();
  refusing.add(keyOf(lease));
}

function keyOf({ engineRun, model }: Lease): string {
  return JSON.stringify([engineRun, model]);
}

function post(
  { attempts }: Search,
  { lease, record, scope }: Trying,
  { path, body }: { path: string; body: object },
): Promise<Response> {
  return lease.upstream({
    path,
    method: "POST",
    headers: attempts.headers(lease, record),
    body: encoder.encode(JSON.stringify(body)),
    signal: scope.signal,
    // A pooled connection may have been closed meanwhile, and this is tried once only.
    fresh: true,
  });
}
