/** Which headers cross the proxy: an allow-list each way, the same for every route. */

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

export function requestHeaders(
  from: Headers,
  extra: {
    requestId: string;
    apiKey: string | null;
    /** In place of the engine's address. */
    hostHeader: string | null;
    contentType: string | null;
    /** In place of the client's own. */
    traceparent: string | null;
  },
): Headers {
  const headers = new Headers();
  for (const name of TO_ENGINE) {
    const value = from.get(name);
    if (value !== null) headers.set(name, value);
  }
  // What the client names here is meant for its own connection (RFC 9110, 7.6.1).
  const named = from.get("connection");
  if (named !== null && named !== "keep-alive") {
    const hops = new Set(named.toLowerCase().split(/[\s,]+/));
    for (const name of TO_ENGINE) if (hops.has(name)) headers.delete(name);
  }
  if (extra.contentType !== null) headers.set("content-type", extra.contentType);
  // Otherwise fetch would offer gzip in the client's name.
  headers.set("accept-encoding", "identity");
  headers.set("x-request-id", extra.requestId);
  if (extra.traceparent !== null) headers.set("traceparent", extra.traceparent);
  if (extra.hostHeader !== null) headers.set("host", extra.hostHeader);
  if (extra.apiKey !== null) headers.set("authorization", `Bearer ${extra.apiKey}`);
  return headers;
}

export function responseHeaders(from: Headers, { isStream }: { isStream: boolean }): Headers {
  const headers = new Headers();
  for (const name of TO_CLIENT) {
    const value = from.get(name);
    if (value !== null) headers.set(name, value);
  }
  if (isStream) {
    headers.set("cache-control", "no-cache");
    // nginx in front of the head would hold the stream back otherwise.
    headers.set("x-accel-buffering", "no");
  }
  return headers;
}

/** The client's own id for a request if it is a sound one, else a new one. */
export function requestIdOf(headers: Headers): string {
  const given = headers.get("x-request-id");
  return given !== null && REQUEST_ID.test(given) ? given : `req-${crypto.randomUUID()}`;
}
