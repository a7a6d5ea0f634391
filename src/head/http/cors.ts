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

/** What lets pages of `origin` (or of any, for `*`) read an answer, put into its headers. */
export function allowOrigin(
  headers: Record<string, string>,
  request: Request,
  origin: string | null,
): void {
  if (origin === null) return;
  if (origin === "*") headers["access-control-allow-origin"] = "*";
  else {
    const { vary } = headers;
    headers["vary"] = vary === undefined ? "origin" : `${vary}, origin`;
    if (request.headers.get("origin") === origin) headers["access-control-allow-origin"] = origin;
  }
  headers["access-control-expose-headers"] = "x-request-id, retry-after, retry-after-ms";
}
