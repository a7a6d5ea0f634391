/** Builds the spans of a finished request by OpenTelemetry's conventions for HTTP and GenAI. */

import {
  type Attributes,
  type HrTime,
  type SpanContext,
  SpanKind,
  type SpanStatus,
  SpanStatusCode,
  TraceFlags,
} from "@opentelemetry/api";
import type { Resource } from "@opentelemetry/resources";
import type { ReadableSpan } from "@opentelemetry/sdk-trace";
import type { AttemptRecord, RequestRecord } from "../../proxy/record/record.ts";
import { cleanLine } from "../../util/text.ts";
import { beginTrace, newSpanId, type Trace } from "../../util/traceparent.ts";
import { errorCodeOf } from "../../proxy/record/record-facts.ts";

interface SpanSource {
  resource: Resource;
  /** The program's. */
  version: string;
}

/** The request's span and one for each attempt; none where the caller does not record its trace. */
export function spansOf(record: RequestRecord, source: SpanSource): ReadableSpan[] {
  const trace = record.trace ?? beginTrace(record.traceparent);
  if (!trace.sampled) return [];
  const model = modelNameOf(record);
  const last = record.attempts.at(-1);
  const server = spanOf(source, trace, {
    name: `${record.method} ${record.route}`,
    kind: SpanKind.SERVER,
    spanId: trace.spanId,
    parentSpanId: trace.parentSpanId,
    isRemoteParent: true,
    startMs: record.startedAt,
    endMs: record.startedAt + record.durationMs,
    attributes: serverAttributes(record, model),
    status: statusOf(isServerFault(record) ? errorCodeOf(record) : null),
    ...(record.firstByteMs === null ? {} : { firstByteMs: record.startedAt + record.firstByteMs }),
  });
  const clients = record.attempts.map((attempt) =>
    spanOf(source, trace, {
      name: model === null ? record.operation : `${record.operation} ${model}`,
      kind: SpanKind.CLIENT,
      spanId: attempt.spanId ?? newSpanId(),
      parentSpanId: trace.spanId,
      isRemoteParent: false,
      startMs: attempt.startedAt,
      endMs: attempt.endedAt,
      attributes: {
        ...clientAttributes(record, attempt, model),
        ...(attempt === last ? known(answerFacts(record)) : {}),
      },
      status: statusOf(attempt.outcome === "ok" ? null : attempt.outcome),
    }),
  );
  return [server, ...clients];
}

/** Only a name that the cluster knows: names of spans should be few. */
function modelNameOf({ model, modelKnown }: RequestRecord): string | null {
  return modelKnown && model !== null ? cleanLine(model, 200) : null;
}

/** Of a server's span, what the client did wrong is no error. Source: conventions for HTTP spans. */
function isServerFault(record: RequestRecord): boolean {
  return record.status >= 500 || (record.status < 400 && record.error !== null);
}

function serverAttributes(record: RequestRecord, model: string | null): Attributes {
  return known({
    "http.request.method": record.method,
    "http.route": record.route,
    "http.response.status_code": record.status,
    "http.request.body.size": record.bytesIn,
    "http.response.body.size": record.bytesOut,
    "client.address": record.clientAddress === "" ? null : record.clientAddress,
    "error.type": errorCodeOf(record),
    "gen_ai.operation.name": record.operation,
    "gen_ai.request.model": model,
    "gen_ai.request.stream": record.stream,
    "llmnode.request.id": cleanLine(record.id, 200),
    "llmnode.worker.name": record.attempts.at(-1)?.worker ?? null,
    "llmnode.attempts": record.attempts.length,
    "llmnode.queue_ms": record.queueMs,
    ...answerFacts(record),
  });
}

function clientAttributes(
  record: RequestRecord,
  attempt: AttemptRecord,
  model: string | null,
): Attributes {
  return known({
    "gen_ai.operation.name": record.operation,
    "gen_ai.provider.name": attempt.engineKind,
    "gen_ai.request.model": model,
    "gen_ai.response.model": attempt.outcome === "ok" ? attempt.model : null,
    "server.address": attempt.worker,
    "llmnode.worker.name": attempt.worker,
    "http.response.status_code": attempt.status,
    "error.type": attempt.outcome === "ok" ? null : attempt.outcome,
  });
}

/** What the answer cost and how it ended; counted tokens are no engine's word and left out. */
function answerFacts({ usage, usageEstimated, finishReason }: RequestRecord): Facts {
  return {
    "gen_ai.usage.input_tokens": usage?.input ?? null,
    "gen_ai.usage.output_tokens": usageEstimated ? null : (usage?.output ?? null),
    "gen_ai.usage.cache_read.input_tokens": usage?.cachedInput ?? null,
    "gen_ai.response.finish_reasons": finishReason === null ? null : [cleanLine(finishReason, 64)],
  };
}

type Facts = Record<string, string | number | boolean | string[] | null>;

/** What is unknown is absent. */
function known(facts: Facts): Attributes {
  const attributes: Attributes = {};
  for (const [key, value] of Object.entries(facts)) {
    if (value !== null) attributes[key] = value;
  }
  return attributes;
}

function statusOf(error: string | null): SpanStatus {
  return error === null
    ? { code: SpanStatusCode.UNSET }
    : { code: SpanStatusCode.ERROR, message: error };
}

interface SpanFacts extends Pick<ReadableSpan, "name" | "kind" | "attributes" | "status"> {
  spanId: string;
  parentSpanId: string | null;
  /** Whether the parent is another process's. */
  isRemoteParent: boolean;
  /** Milliseconds since 1970. */
  startMs: number;
  endMs: number;
  /** When the engine's first data came. */
  firstByteMs?: number;
}

function spanOf(source: SpanSource, trace: Trace, facts: SpanFacts): ReadableSpan {
  const contextOf = (spanId: string, isRemote: boolean): SpanContext => ({
    traceId: trace.traceId,
    spanId,
    traceFlags: TraceFlags.SAMPLED,
    isRemote,
  });
  const { parentSpanId, firstByteMs } = facts;
  const context = contextOf(facts.spanId, false);
  return {
    name: facts.name,
    kind: facts.kind,
    spanContext: () => context,
    ...(parentSpanId === null
      ? {}
      : { parentSpanContext: contextOf(parentSpanId, facts.isRemoteParent) }),
    startTime: hrTime(facts.startMs),
    endTime: hrTime(facts.endMs),
    duration: hrTime(Math.max(0, facts.endMs - facts.startMs)),
    status: facts.status,
    attributes: facts.attributes,
    links: [],
    events:
      firstByteMs === undefined ? [] : [{ name: "llmnode.first_byte", time: hrTime(firstByteMs) }],
    ended: true,
    resource: source.resource,
    instrumentationScope: { name: "llmnode", version: source.version },
    droppedAttributesCount: 0,
    droppedEventsCount: 0,
    droppedLinksCount: 0,
  };
}

/** Milliseconds to OpenTelemetry's seconds and nanoseconds. */
function hrTime(ms: number): HrTime {
  // Microseconds: finer digits of a time since 1970 are rounding.
  const micros = Math.round(ms * 1000);
  const seconds = Math.floor(micros / 1_000_000);
  return [seconds, (micros - seconds * 1_000_000) * 1000];
}
