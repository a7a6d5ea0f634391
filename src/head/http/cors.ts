/** Cross-origin answers for web pages of one origin; off unless asked for. */

const METHODS = "GET, HEAD, POST, OPTIONS";
const MAX_AGE_S = 600;

/** The answer to a preflight, or null for any other request. */
export function preflight(request: Request, origin: string | null): Response | null {
  if (origin === null || request.method !== "OPTIONS") return null;
  if (request.headers.get("access-control-request-method") === null) return null;
  return new Response(null, {
    status: 204,
    headers: {
      "access-control-allow-methods": METHODS,
      "access-control-allow-headers":
        request.headers.get("access-control-request-headers") ?? "authorization, content-type",
      "access-control-max-age": String(MAX_AGE_S),
    },
  });
}

/** Lets pages of `origin` (or of any, for `*`) read the answer. */
export function allowOrigin(headers: Headers, request: Request, origin: string | null): void {
  if (origin === null) return;
  const from = request.headers.get("origin");
  if (origin === "*") headers.set("access-control-allow-origin", "*");
  else {
    headers.append("vary", "origin");
    if (from === origin) headers.set("access-control-allow-origin", origin);
  }
  headers.set("access-control-expose-headers", "x-request-id, retry-after, retry-after-ms");
}
