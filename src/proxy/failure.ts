/** Sorts what can go wrong with one attempt at an engine. */

import { LlmnodeError, messageOf, systemCode } from "../protocol/errors.ts";
import { readErrorBody } from "./engine-error.ts";
import { engineErrorBody } from "./error-answer.ts";
import type { Dialect } from "./routes.ts";

/** How an attempt ended, and what the lease is released with. */
export type Outcome =
  | "ok"
  /** The engine answered that the request is wrong. */
  | "rejected"
  /** The engine has no room now (429, 503). */
  | "busy"
  /** The engine answered 5xx, or an error in the first frame. */
  | "engine_error"
  /** The connection could not be made. */
  | "unreachable"
  /** The connection broke before the answer was whole. */
  | "broken"
  /** The head took the request away. */
  | "recalled"
  /** The client took no byte for too long. */
  | "slow_client"
  | "client_gone";

export interface AttemptFailure {
  outcome: Outcome;
  /** The engine's status; null when it gave none. */
  status: number | null;
  /** Whether another replica may do better. */
  retry: boolean;
  /** What the client gets if nothing better comes. */
  respond: () => Response | LlmnodeError;
  /** For the log. */
  message: string;
}

const REFUSED: ReadonlySet<string> = new Set([
  "ConnectionRefused",
  "ECONNREFUSED",
  "FailedToOpenSocket",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "ENOTFOUND",
  // A lane: the worker has none free, or is gone.
  "upstream_unreachable",
  // By the connect limit of `directUpstream`.
  "ETIMEDOUT",
]);

/** `subject` is what was asked, for the client's words. */
export function connectionFailure(error: unknown, subject: "engine" | "service"): AttemptFailure {
  if (error instanceof LlmnodeError) {
    // It is the request that broke off, not the engine.
    const respond = () => error;
    return { outcome: "rejected", status: null, retry: false, respond, message: error.message };
  }
  const refused = REFUSED.has(systemCode(error) ?? "");
  const message = refused
    ? subject === "engine"
      ? "No engine that has this model could be reached."
      : "The service could not be reached."
    : `The ${subject} broke the connection before it answered.`;
  return {
    outcome: refused ? "unreachable" : "broken",
    status: null,
    retry: true,
    message: messageOf(error),
    respond: () => new LlmnodeError("upstream_unreachable", message, { cause: error }),
  };
}

/** An answer that is not the client's answer: what it says, and whether another replica may help. */
export function statusFailure(
  answer: { status: number; headers: Headers; bytes: Uint8Array },
  dialect: Dialect,
): AttemptFailure {
  const { status } = answer;
  const error = readErrorBody(answer.bytes, status);
  if (status === 401 || status === 403) {
    const message = "The engine refused the key that its worker gave.";
    const respond = () => new LlmnodeError("upstream_auth", message);
    return { outcome: "engine_error", status, retry: true, respond, message: error.message };
  }
  const busy = status === 429 || status === 503;
  const rejected = status >= 400 && status < 500 && !busy;
  // Nobody who asks an API follows a redirect to an address of the engine's own.
  const shown = status < 400 ? 502 : status;
  return {
    outcome: busy ? "busy" : rejected ? "rejected" : "engine_error",
    status,
    retry: !rejected,
    message: error.message,
    respond() {
      const headers = new Headers({ "content-type": "application/json" });
      const retryAfter = answer.headers.get("retry-after");
      if (retryAfter !== null) headers.set("retry-after", retryAfter);
      return new Response(engineErrorBody(dialect, error, shown), { status: shown, headers });
    },
  };
}

/** Whether an engine's refusal is about a field that we added. */
export function refusesStreamOptions(failure: AttemptFailure): boolean {
  const { status, message } = failure;
  return (status === 400 || status === 422) && /stream_options|include_usage/.test(message);
}
