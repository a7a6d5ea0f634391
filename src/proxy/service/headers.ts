/** Which headers cross the proxy to and from a service: all but those of a single connection. */

// RFC 9110, 7.6.1, and what clients and servers of old send. `content-length` and `host` are set
// by whoever sends the request on; `expect` is answered by the head's own server.
const HOP_BY_HOP: readonly string[] = [
  "connection",
  "keep-alive",
  "proxy-authenticate",
  "proxy-authorization",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
];
const OF_REQUESTS: readonly string[] = [...HOP_BY_HOP, "content-length", "expect", "host"];
const KEYS: readonly string[] = ["authorization", "x-api-key"];
/** What clients say to the head, and the head to clients. */
const OUR_OWN = "x-llmnode-";

export function serviceRequestHeaders(
  from: Headers,
  extra: {
    requestId: string;
    hostHeader: string | null;
    traceparent: string | null;
    /** Whether what lets the client in is the head's own, and nothing to show to others. */
    hidesKey: boolean;
  },
): Headers {
  const headers = without(from, extra.hidesKey ? [...OF_REQUESTS, ...KEYS] : OF_REQUESTS);
  // Otherwise fetch would offer its own in the client's name.
  if (!headers.has("accept-encoding")) headers.set("accept-encoding", "identity");
  headers.set("x-request-id", extra.requestId);
  if (extra.traceparent !== null) headers.set("traceparent", extra.traceparent);
  if (extra.hostHeader !== null) headers.set("host", extra.hostHeader);
  return headers;
}

export function serviceResponseHeaders(from: Headers): Headers {
  return without(from, HOP_BY_HOP);
}

function without(from: Headers, names: readonly string[]): Headers {
  const hops = new Set([...names, ...(from.get("connection") ?? "").toLowerCase().split(/[\s,]+/)]);
  const headers = new Headers();
  for (const [name, value] of from) {
    if (!hops.has(name) && !name.startsWith(OUR_OWN)) headers.append(name, value);
  }
  return headers;
}
