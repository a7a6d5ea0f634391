/** Sorts what can go wrong with one attempt at an engine. */

import { LlmnodeError, messageOf, systemCode } from "../protocol/errors.ts";

/** What the lease is released with. */
export type Outcome =
  | "ok"
  /** The engine answered that the request is wrong. */
  | "rejected"
  /** The engine has no room now (429, 503). */
  | "busy"
  /** The engine answered 5xx. */
  | "engine_error"
  /** The connection could not be made. */
  | "unreachable"
  /** The connection broke before the answer was whole. */
  | "broken"
  /** The head took the request away. */
  | "recalled"
  | "client_gone";

export interface AttemptFailure {
  outcome: Outcome;
  /** What the client gets if nothing better comes. */
  respond: () => Response | LlmnodeError;
}

/** Whether the connection itself was refused, as against breaking later. */
export function isRefused(error: unknown): boolean {
  const code = systemCode(error);
  return (
    code === "ConnectionRefused" ||
    code === "ECONNREFUSED" ||
    code === "FailedToOpenSocket" ||
    code === "EHOSTUNREACH" ||
    code === "ENETUNREACH"
  );
}

export function connectionFailure(error: unknown): AttemptFailure {
  const refused = isRefused(error);
  const message = refused
    ? "No engine that has this model could be reached."
    : "The engine broke the connection before it answered.";
  return {
    outcome: refused ? "unreachable" : "broken",
    respond: () => new LlmnodeError("upstream_unreachable", message, { cause: messageOf(error) }),
  };
}
