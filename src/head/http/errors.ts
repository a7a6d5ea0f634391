/** The failures by which the head's HTTP port answers itself. */

import { LlmnodeError } from "../../protocol/errors.ts";

export function nothingAt(pathname: string): LlmnodeError {
  return new LlmnodeError("unknown_url", `There is nothing at ${pathname.slice(0, 200)}.`);
}

export function notAllowed(request: Request, pathname: string, allow: string): LlmnodeError {
  const message = `${request.method} is not possible at ${pathname.slice(0, 200)}.`;
  return new LlmnodeError("method_not_allowed", message, { allow });
}

export function stopping(): LlmnodeError {
  return new LlmnodeError("shutting_down", "The head is stopping.", { retryAfterMs: 1000 });
}

export function tooMany(): LlmnodeError {
  const message = "Too many requests are running from this address.";
  return new LlmnodeError("rate_limited", message, { retryAfterMs: 1000 });
}
