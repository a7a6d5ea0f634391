/** W3C Trace Context: reads and writes `traceparent`, and makes the ids of spans. */

/** One request's place in a trace. */
export interface Trace {
  /** 32 hex digits. */
  traceId: string;
  /** The request's own span: 16 hex digits. */
  spanId: string;
  /** The caller's span; null when the trace begins here. */
  parentSpanId: string | null;
  /** Whether the caller that began the trace wants it recorded. */
  sampled: boolean;
}

export interface TraceParent {
  traceId: string;
  spanId: string;
  sampled: boolean;
}

// Later versions may add fields behind the flags. Source: https://www.w3.org/TR/trace-context/
const TRACEPARENT = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/;
const SAMPLED = 1;

/** Null for what is no valid `traceparent`: then a new trace begins. */
export function parseTraceparent(text: string | null): TraceParent | null {
  if (text === null || text.length > 512) return null;
  const match = TRACEPARENT.exec(text.trim());
  if (!match) return null;
  const [, version = "", traceId = "", spanId = "", flags = "", rest] = match;
  if (version === "ff" || (version === "00" && rest !== undefined)) return null;
  if (/^0+$/.test(traceId) || /^0+$/.test(spanId)) return null;
  return { traceId, spanId, sampled: (Number.parseInt(flags, 16) & SAMPLED) !== 0 };
}

export function formatTraceparent({ traceId, spanId, sampled }: TraceParent): string {
  return `00-${traceId}-${spanId}-${sampled ? "01" : "00"}`;
}

/** What makes the receiver's spans children of one of this trace; null where nothing is traced. */
export function traceparentOf(trace: Trace | null, spanId: string | null): string | null {
  if (trace === null || spanId === null) return null;
  return formatTraceparent({ traceId: trace.traceId, spanId, sampled: trace.sampled });
}

/** Goes on with the caller's trace, or begins one that is recorded. */
export function beginTrace(traceparent: string | null): Trace {
  const parent = parseTraceparent(traceparent);
  return {
    traceId: parent?.traceId ?? randomHex(16),
    spanId: newSpanId(),
    parentSpanId: parent?.spanId ?? null,
    sampled: parent?.sampled ?? true,
  };
}

/** 16 hex digits. */
export function newSpanId(): string {
  return randomHex(8);
}

function randomHex(bytes: number): string {
  const random = crypto.getRandomValues(Buffer.alloc(bytes));
  // All zeros mean "none".
  if (random.every((byte) => byte === 0)) random[0] = 1;
  return random.toString("hex");
}
