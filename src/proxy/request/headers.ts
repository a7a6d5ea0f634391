/** Which headers cross the proxy: an allow-list each way, the same for every route. */

import type { AnswerHead } from "../../util/http/exchange.ts";

/** From the client to the engine. Never: credentials, cookies, addresses, hop-by-hop headers. */
const TO_ENGINE = [
  "accept",
  "anthropic-beta",
  "anthropic-version",
  "baggage",
  "endpoint-load-metrics-format",
  "openai-beta",
  "traceparent",
  "tracestate",
  "user-agent",
  "x-conversation-id",
  "x-data-parallel-rank",
  "x-session-id",
];

/**
 * From the engine to the client. Framing (`content-length`, `transfer-encoding`) is the server's
 * own; `content-encoding` passes because the body does, untouched.
 */
const TO_CLIENT = [
  "cache-control",
  "content-disposition",
  "content-encoding",
  "content-language",
  "content-type",
  "endpoint-load-metrics",
  "openai-processing-ms",
  "retry-after",
  "x-compute-time",
  "x-compute-type",
];

/** 1 to 128 visible ASCII characters. */
const REQUEST_ID = /^[\x21-\x7e]{1,128}$/;

/** What can be sent as a value (RFC 9110, 5.5): nothing that would end a line, also as Latin-1. */
const VALUE = /^[\t\x20-\x7e\x80-\xff]*$/;

/** A header line; none where the value cannot be sent. */
export function fieldLine(name: string, value: string): string {
  return VALUE.test(value) ? `${name}: ${value}\r\n` : "";
}

/** What an engine is told: header lines, as an upstream takes them. */
export function requestFields(
  from: Headers,
  extra: {
    requestId: string;
    apiKey: string | null;
    contentType: string | null;
    /** In place of the client's own. */
    traceparent: string | null;
  },
): string {
  // What the client names there is meant for its own connection (RFC 9110, 7.6.1).
  const named = from.get("connection");
  const hops = named === null || named === "keep-alive" ? NONE : listed(named);
  let fields = "";
  for (const name of TO_ENGINE) {
    if (name === "traceparent" && extra.traceparent !== null) continue;
    const value = from.get(name);
    if (value !== null && !hops.has(name)) fields += fieldLine(name, value);
  }
  if (extra.contentType !== null) fields += fieldLine("content-type", extra.contentType);
  // No engine is to answer with what the client may not take.
  fields += `accept-encoding: identity\r\nx-request-id: ${extra.requestId}\r\n`;
  if (extra.traceparent !== null) fields += fieldLine("traceparent", extra.traceparent);
  if (extra.apiKey !== null) fields += fieldLine("authorization", `Bearer ${extra.apiKey}`);
  return fields;
}

const NONE: ReadonlySet<string> = new Set();

/** The members of a list such as that of `connection`, in lower case. */
export function listed(value: string): ReadonlySet<string> {
  return new Set(value.toLowerCase().split(/[\s,]+/));
}

/** The headers of an answer on its way to the client; in lower case. */
export type AnswerHeaders = Record<string, string>;

/** Of a stream that begins before its engine says anything. */
export const EVENT_STREAM: Readonly<AnswerHeaders> = {
  "content-type": "text/event-stream",
  "cache-control": "no-cache",
  "x-accel-buffering": "no",
};

const FOR_CLIENT: ReadonlySet<string> = new Set(TO_CLIENT);

/** What the client is told of an engine's answer. */
export function answerHeaders(
  head: AnswerHead,
  { isStream }: { isStream: boolean },
): AnswerHeaders {
  const headers: AnswerHeaders = {};
  for (const [name, value] of head.fields) if (FOR_CLIENT.has(name)) headers[name] = value;
  if (isStream) {
    headers["cache-control"] = "no-cache";
    // nginx in front of the head would hold the stream back otherwise.
    headers["x-accel-buffering"] = "no";
  }
  return headers;
}

/** The client's own id for a request if it is a sound one, else a new one. */
export function requestIdOf(headers: Headers): string {
  const given = headers.get("x-request-id");
  return given !== null && REQUEST_ID.test(given) ? given : `req-${crypto.randomUUID()}`;
}
