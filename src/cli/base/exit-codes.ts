/** The exit codes of every command, and what each expected failure means there. */

import type { ErrorCode } from "../../protocol/errors.ts";

export const EXIT = {
  ok: 0,
  failure: 1,
  usage: 2,
  /** The head does not answer; asking again makes sense. */
  unreachable: 3,
  notAllowed: 4,
  notFound: 5,
  refused: 6,
  /** `status --check`: degraded, or no model is ready. */
  degraded: 7,
  internal: 70,
  deadline: 124,
  // `join` answers like docker run: a failure of its own, then the engine program's two.
  joinFailed: 125,
  notExecutable: 126,
  engineNotFound: 127,
} as const;

export const EXIT_CODES: Record<ErrorCode, number> = {
  bad_request: EXIT.failure,
  model_not_found: EXIT.notFound,
  unknown_url: EXIT.failure,
  method_not_allowed: EXIT.failure,
  not_supported: EXIT.failure,
  request_too_large: EXIT.failure,
  key_missing: EXIT.notAllowed,
  key_invalid: EXIT.notAllowed,
  forbidden: EXIT.notAllowed,
  rate_limited: EXIT.failure,
  quota_exceeded: EXIT.failure,
  no_ready_replica: EXIT.failure,
  queue_full: EXIT.failure,
  overloaded: EXIT.unreachable,
  shutting_down: EXIT.unreachable,
  upstream_unreachable: EXIT.failure,
  upstream_broken: EXIT.failure,
  upstream_timeout: EXIT.failure,
  upstream_auth: EXIT.failure,
  engine_crashed: EXIT.failure,
  client_gone: EXIT.failure,
  cancelled: EXIT.failure,
  name_in_use: EXIT.refused,
  worker_in_use: EXIT.refused,
  version_unsupported: EXIT.refused,
  bad_message: EXIT.failure,
  head_full: EXIT.refused,
  join_token_missing: EXIT.notAllowed,
  join_token_wrong: EXIT.notAllowed,
  join_token_expired: EXIT.notAllowed,
  join_token_revoked: EXIT.notAllowed,
  join_token_used_up: EXIT.notAllowed,
  credential_unknown: EXIT.notAllowed,
  worker_forgotten: EXIT.notAllowed,
  wrong_fingerprint: EXIT.notAllowed,
  tls_mismatch: EXIT.failure,
  clock_off: EXIT.failure,
  model_not_allowed: EXIT.notAllowed,
  usage: EXIT.usage,
  head_unreachable: EXIT.unreachable,
  not_found: EXIT.notFound,
  worker_not_found: EXIT.notFound,
  refused: EXIT.refused,
  last_replica: EXIT.refused,
  port_in_use: EXIT.failure,
  address_unusable: EXIT.failure,
  data_dir_unusable: EXIT.failure,
  engine_not_found: EXIT.engineNotFound,
  engine_not_executable: EXIT.notExecutable,
  join_failed: EXIT.joinFailed,
  deadline_passed: EXIT.deadline,
  internal: EXIT.internal,
};

/**
 * `join` stands in front of another program, so its own failures keep clear of that program's low
 * codes: 125, as `docker run` does it.
 */
export function joinExitCode(code: ErrorCode): number {
  const general = EXIT_CODES[code];
  const kept: readonly number[] = [
    EXIT.usage,
    EXIT.internal,
    EXIT.notExecutable,
    EXIT.engineNotFound,
  ];
  return kept.includes(general) ? general : EXIT.joinFailed;
}

/** Failures that may be gone when the same command runs again. */
export function isRetryable(code: ErrorCode): boolean {
  return EXIT_CODES[code] === EXIT.unreachable || EXIT_CODES[code] === EXIT.deadline;
}
