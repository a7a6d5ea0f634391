/** Looks for a replica that goes on with a begun answer, and has it do so. */

import type { LeaseOutcome, ReplicaRequest } from "../../protocol/replica-request.ts";
import { AnswerCollector, type AnswerSink } from "../../util/http/exchange.ts";
import { connectionFailure } from "../answer/failure.ts";
import type { GoingOn } from "../answer/relay.ts";
import { type EngineRequest, engineRequest, scopeFor } from "../attempt/engine-request.ts";
import { type AttemptScope, interrupted } from "../attempt/scope.ts";
import type { AttemptRecord, ResumeResult } from "../record/record.ts";
import type { CancelSignal } from "../request/client-request.ts";
import type { Acquire, Lease } from "../request/lease.ts";
import type { AnswerSoFar } from "./answer.ts";
import { continuationBody, type ResumableBody } from "./body.ts";
import { type Ask, checkContinuation, type Measure } from "./check.ts";
import {
  type Beginning,
  closingFrames,
  OtherContentError,
  SplicedAnswer,
  whole,
} from "./splice.ts";

/** What the proxy does for an attempt at a replica. */
export interface ResumeAttempts {
  request: EngineRequest;
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
  signal: CancelSignal;
  /** Called with the scope of every attempt, and with null at its end. */
  onScope: (scope: AttemptScope | null) => void;
}

/** Engines that continue a begun answer as `continue_final_message` asks; the simulated one plays them. */
export const RESUME_KINDS: readonly string[] = ["vllm", "sglang", "sim"];
/** Pairs of an engine's run and a model that are remembered not to continue answers. */
const MAX_REFUSING = 1000;
const encoder = new TextEncoder();

export type Found = { scope: AttemptScope; answer: GoingOn } | { result: ResumeResult };

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
  const scope = scopeFor(attempts.request, { lease, record }, null);
  const abort = () => scope.interrupt();
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
    const measure = await measureAt(on, scope);
    if (measure === null) return lost("rescheduled", { result: "not_possible" });
    const { maxTokens } = on.request;
    const { produced } = measure;
    const begun = { answer: on.answer, produced };
    const tokensLeft = maxTokens === null ? null : maxTokens - produced;
    if (on.answer.isFinished || (tokensLeft !== null && tokensLeft <= 0)) {
      return { scope, answer: whole(closingFrames(on.request, begun, measure)) };
    }
    const body = continuationBody(on.request, { text: on.answer.text, tokensLeft });
    const answer = new SplicedAnswer(begun);
    const beginning = await asked(on, scope, { path: attempts.request.path, body, answer });
    if (beginning.kind === "status") {
      const { status } = beginning;
      record.status = status;
      if (status === 429 || status === 503) return lost("busy", "elsewhere");
      return lost(status < 500 ? "rejected" : "engine_error", { result: "failed" });
    }
    record.status = 200;
    if (beginning.kind === "refusal") return lost(beginning.failure.outcome, { result: "failed" });
    if (beginning.kind === "nothing") return lost("broken", { result: "failed" });
    scope.sink = answer;
    lease.started();
    record.firstByteAt = on.now();
    return { scope, answer };
  } catch (error) {
    if (error instanceof OtherContentError) {
      refuse(on, lease);
      return lost("rejected", { result: "not_possible" });
    }
    const isOver = signal.aborted || scope.isLate;
    // What the head takes away before its first data may go on at any other.
    if (scope.aborted) return lost("rescheduled", isOver ? { result: "failed" } : "elsewhere");
    const { outcome } = connectionFailure(error, "engine");
    return lost(outcome, outcome === "unreachable" ? "elsewhere" : { result: "failed" });
  } finally {
    signal.removeEventListener("abort", abort);
  }
}

/** Null where the engine would not go on rightly. Throws what the way throws. */
async function measureAt(on: Search, scope: AttemptScope): Promise<Measure | null> {
  const { text } = on.answer;
  // The whole request is simply made again.
  if (text === "") return { prompt: 0, produced: 0 };
  if (on.refusing.has(keyOf(scope.lease))) return null;
  const ask: Ask = async (path, body, maxBytes) => {
    const reader = new AnswerCollector(maxBytes);
    post(on, scope, { path, body, sink: reader });
    const { status, bytes, isWhole } = await reader.answer;
    return status === 200 && isWhole ? bytes : null;
  };
  const checked = await checkContinuation(ask, on.request, text);
  if (checked.kind === "ok") return checked.measure;
  if (checked.kind === "never") refuse(on, scope.lease);
  return null;
}

/** How the continuation begins. Nothing more of it comes until it is taken. */
async function asked(
  on: Search,
  scope: AttemptScope,
  { path, body, answer }: { path: string; body: object; answer: SplicedAnswer },
): Promise<Beginning> {
  post(on, scope, { path, body, sink: answer });
  const beginning = await answer.beginning;
  scope.pause();
  return beginning;
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
  scope: AttemptScope,
  { path, body, sink }: { path: string; body: object; sink: AnswerSink },
): void {
  scope.sink = sink;
  if (scope.aborted) return sink.fail(interrupted());
  scope.send(
    engineRequest(attempts.request, scope, {
      method: "POST",
      path,
      body: encoder.encode(JSON.stringify(body)),
      // A kept connection may have been closed meanwhile, and this is tried once only.
      fresh: true,
    }),
    sink,
  );
}
