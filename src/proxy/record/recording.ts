/** Keeps the record of one request, from its arrival to its end. */

import type { Caller } from "../../protocol/caller.ts";
import { beginTrace, newSpanId, type Trace } from "../../util/traceparent.ts";
import type { AnswerHeaders } from "../request/headers.ts";
import type { Lease } from "../request/lease.ts";
import { cleanLine } from "../../util/text.ts";
import type { AttemptRecord, RequestRecord } from "./record.ts";
import type { Route } from "../request/routes.ts";
import type { StreamWatch } from "./stream-watch.ts";

export interface RecordingOptions {
  /** Whether answers tell worker, attempts and waiting time. */
  infoHeaders: boolean;
  /** Whether attempts are spans of their own, which the engine is told. */
  traced: boolean;
  /** Milliseconds since 1970, never going back. */
  now: () => number;
  /** Called once for every request for models, when it has arrived. */
  onLive: (live: LiveRequest) => void;
  /** Called once for every request, when it is over. */
  onRecord: (record: RequestRecord) => void;
}

/** A request that runs, for those who look at it. */
export interface LiveRequest {
  record: RequestRecord;
  /** What has passed of the answer; null: none is there yet. */
  watch: Pick<StreamWatch, "chunks" | "bytes"> | null;
  /** Ends it; its client is told that it was an operator. */
  cancel(): void;
}

/** What is known of a request when it arrives. */
export interface RecordedCall {
  requestId: string;
  clientAddress: string;
  caller: Caller;
}

/** Asks for an explanation of the choice of a replica, and carries it. */
export const DEBUG_ROUTE = "x-llmnode-debug-route";
const MAX_EXPLANATION_CHARS = 4000;

/** Adds what clients may know of how they were served. */
export function addInfo(
  { infoHeaders }: RecordingOptions,
  record: RequestRecord,
  headers: AnswerHeaders,
): void {
  if (!infoHeaders) return;
  const last = record.attempts.at(-1);
  headers["x-llmnode-worker"] = last?.worker ?? "";
  headers["x-llmnode-attempts"] = String(record.attempts.length);
  headers["x-llmnode-queue-ms"] = String(Math.round(record.queueMs));
  const why = last?.explanation ?? null;
  // Names in it may be of any script; a header takes ASCII.
  if (why !== null) {
    headers[DEBUG_ROUTE] = cleanLine(why, MAX_EXPLANATION_CHARS).replace(/[^ -~]/g, "?");
  }
}

export function startRecord(
  options: RecordingOptions,
  request: Request,
  { call, route }: { call: RecordedCall; route: Pick<Route, "path" | "operation"> },
): RequestRecord {
  return {
    id: call.requestId,
    startedAt: options.now(),
    durationMs: 0,
    method: request.method,
    route: route.path,
    operation: route.operation,
    model: null,
    alias: false,
    modelKnown: false,
    stream: false,
    status: 0,
    error: null,
    attempts: [],
    resume: null,
    queueMs: 0,
    bodyMs: 0,
    firstByteMs: null,
    bytesIn: 0,
    promptBytes: null,
    bytesOut: 0,
    chunks: 0,
    usage: null,
    usageEstimated: false,
    finishReason: null,
    clientAddress: call.clientAddress,
    key: keyOf(call.caller),
    traceparent: request.headers.get("traceparent"),
    trace: options.traced ? beginTrace(request.headers.get("traceparent")) : null,
    bodies: null,
  };
}

function keyOf({ key }: Caller): RequestRecord["key"] {
  return key && { id: key.id, name: key.name === "" ? null : key.name };
}

export function startAttempt(
  options: RecordingOptions,
  { lease, trace }: { lease: Lease; trace: Trace | null },
): AttemptRecord {
  const now = options.now();
  return {
    worker: lease.worker,
    engine: lease.engine.slice(lease.engine.lastIndexOf("/") + 1),
    engineKind: lease.engineKind,
    model: lease.model,
    startedAt: now,
    endedAt: now,
    firstByteAt: null,
    outcome: "ok",
    status: null,
    explanation: lease.explanation,
    spanId: trace === null ? null : newSpanId(),
  };
}

/** Writes down how the request has ended; nothing changes the record any more. */
export function completeRecord(
  record: RequestRecord,
  end: { status: number; error: string | null; watch: StreamWatch | null; now: number },
): void {
  const { status, error, watch } = end;
  record.status = status;
  record.error = error;
  record.durationMs = end.now - record.startedAt;
  if (watch === null) return;
  const facts = watch.facts();
  record.bytesOut = watch.bytes;
  record.chunks = watch.chunks;
  record.finishReason = facts.finishReason;
  record.usage = facts.usage;
  record.error ??= facts.error?.message ?? null;
  if (record.bodies) record.bodies.answer = decoder.decode(watch.tail(MAX_LOGGED_BYTES));
  if (record.stream && error !== null) estimate(record, watch);
}

/** How much of a body goes into the log. */
export const MAX_LOGGED_BYTES = 16 * 1024;
const decoder = new TextDecoder();

/**
 * What a stream that was cut has cost: no engine has come to say it, and those that begin with
 * usage (Anthropic's) say one token at most.
 */
function estimate(record: RequestRecord, watch: StreamWatch): void {
  if ((record.usage?.output ?? 0) > 1) return;
  const unknown = { input: null, cachedInput: null, reasoning: null };
  record.usage = { ...unknown, ...record.usage, output: watch.frames() };
  record.usageEstimated = true;
}
