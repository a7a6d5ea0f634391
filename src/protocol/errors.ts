/** Every failure that llmnode expects: one error class, one closed set of codes. */

/**
 * Two tables give each code its outward meaning: HTTP (`proxy/record/error-answer.ts`) and exit codes
 * (`cli/base/exit-codes.ts`). The compiler checks that each is whole. On the session a code travels as
 * itself, in a Refusal.
 */
export type ErrorCode =
  // what a client of the API sees
  | "bad_request"
  | "model_not_found"
  | "unknown_url"
  | "method_not_allowed"
  | "not_supported"
  | "request_too_large"
  | "key_missing"
  | "key_invalid"
  | "forbidden"
  | "rate_limited"
  | "quota_exceeded"
  | "no_ready_replica"
  | "queue_full"
  | "overloaded"
  | "shutting_down"
  | "upstream_unreachable"
  | "upstream_broken"
  | "upstream_auth"
  | "upstream_timeout"
  | "engine_crashed"
  | "client_gone"
  | "cancelled"
  // what a worker is refused with
  | "name_in_use"
  | "worker_in_use"
  | "version_unsupported"
  | "bad_message"
  | "head_full"
  | "join_token_missing"
  | "join_token_wrong"
  | "join_token_expired"
  | "join_token_revoked"
  | "join_token_used_up"
  | "credential_unknown"
  | "worker_forgotten"
  | "wrong_fingerprint"
  | "tls_mismatch"
  | "clock_off"
  | "model_not_allowed"
  // what a person at a terminal sees
  | "usage"
  | "head_unreachable"
  | "not_found"
  | "worker_not_found"
  | "refused"
  | "last_replica"
  | "port_in_use"
  | "address_unusable"
  | "data_dir_unusable"
  | "engine_not_found"
  | "engine_not_executable"
  | "join_failed"
  | "deadline_passed"
  // a bug
  | "internal";

export interface ErrorDetails {
  /** What to do next: lines that a person can paste. */
  hints?: string[];
  /** The request field that was wrong, for OpenAI's `param`. */
  param?: string;
  /** The name that it is about, as it was asked for. */
  subject?: string;
  /** Why, in a few words, where the message says more than that. */
  reason?: string;
  /** When asking again makes sense. */
  retryAfterMs?: number;
  /** Allowed methods, for `method_not_allowed`. */
  allow?: string;
  cause?: unknown;
}

export class LlmnodeError extends Error {
  readonly code: ErrorCode;
  readonly hints: readonly string[];
  readonly param: string | null;
  readonly subject: string | null;
  readonly reason: string | null;
  readonly retryAfterMs: number | null;
  readonly allow: string | null;

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = "LlmnodeError";
    this.code = code;
    this.hints = details.hints ?? [];
    this.param = details.param ?? null;
    this.subject = details.subject ?? null;
    this.reason = details.reason ?? null;
    this.retryAfterMs = details.retryAfterMs ?? null;
    this.allow = details.allow ?? null;
  }
}

/** The text of anything that was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** The `code` of a system error such as ECONNREFUSED, or null. */
export function systemCode(error: unknown): string | null {
  if (typeof error !== "object" || error === null || !("code" in error)) return null;
  return typeof error.code === "string" ? error.code : null;
}
