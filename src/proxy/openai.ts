/** Errors as a client of OpenAI's API expects them: status, body, headers. */

import { type ErrorCode, LlmnodeError } from "../protocol/errors.ts";

interface HttpMeaning {
  status: number;
  type: string;
  code: string | null;
}

const INVALID = "invalid_request_error";

/** Source of the rows: the status map that the README prints. */
export const HTTP_MEANING: Record<ErrorCode, HttpMeaning> = {
  bad_request: { status: 400, type: INVALID, code: null },
  model_not_found: { status: 404, type: INVALID, code: "model_not_found" },
  unknown_url: { status: 404, type: INVALID, code: "unknown_url" },
  method_not_allowed: { status: 405, type: INVALID, code: "unknown_url" },
  not_supported: { status: 501, type: INVALID, code: "not_supported" },
  request_too_large: { status: 413, type: INVALID, code: "request_too_large" },
  forbidden: { status: 403, type: INVALID, code: "forbidden" },
  no_ready_replica: { status: 503, type: "service_unavailable", code: "no_ready_replica" },
  overloaded: { status: 503, type: "service_unavailable", code: "overloaded" },
  shutting_down: { status: 503, type: "service_unavailable", code: "shutting_down" },
  upstream_unreachable: { status: 502, type: "upstream_error", code: "upstream_unreachable" },
  upstream_broken: { status: 502, type: "upstream_error", code: "upstream_broken" },
  upstream_auth: { status: 502, type: "upstream_error", code: "upstream_auth" },
  upstream_timeout: { status: 504, type: "timeout", code: "upstream_timeout" },
  // Nobody reads this answer; the number is for the log.
  client_gone: { status: 499, type: INVALID, code: "client_gone" },
  name_in_use: { status: 409, type: INVALID, code: "name_in_use" },
  worker_in_use: { status: 409, type: INVALID, code: "worker_in_use" },
  version_unsupported: { status: 409, type: INVALID, code: "version_unsupported" },
  bad_message: { status: 400, type: INVALID, code: "bad_message" },
  head_full: { status: 503, type: "service_unavailable", code: "head_full" },
  not_found: { status: 404, type: INVALID, code: "not_found" },
  refused: { status: 409, type: INVALID, code: "refused" },
  deadline_passed: { status: 504, type: "timeout", code: "deadline_passed" },
  usage: { status: 400, type: INVALID, code: null },
  head_unreachable: internal(),
  port_in_use: internal(),
  address_unusable: internal(),
  data_dir_unusable: internal(),
  engine_not_found: internal(),
  engine_not_executable: internal(),
  join_failed: internal(),
  internal: internal(),
};

/** OpenAI's error body; all four keys are always there. */
export function errorBody(error: LlmnodeError): string {
  const { type, code } = HTTP_MEANING[error.code];
  return JSON.stringify({ error: { message: error.message, type, param: error.param, code } });
}

export function errorResponse(error: LlmnodeError, extra: Record<string, string> = {}): Response {
  const headers: Record<string, string> = { "content-type": "application/json", ...extra };
  if (error.allow !== null) headers["allow"] = error.allow;
  if (error.retryAfterMs !== null) {
    headers["retry-after"] = String(Math.max(1, Math.ceil(error.retryAfterMs / 1000)));
    headers["retry-after-ms"] = String(Math.max(1, Math.round(error.retryAfterMs)));
  }
  return new Response(errorBody(error), { status: HTTP_MEANING[error.code].status, headers });
}

/** The last event of a stream that broke: SDKs raise on any frame with an `error` key. */
export function errorEvent(error: LlmnodeError): string {
  return `data: ${errorBody(error)}\n\n`;
}

function internal(): HttpMeaning {
  return { status: 500, type: "server_error", code: "internal" };
}
