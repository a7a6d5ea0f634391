/** Errors as the client of a route expects them: status, body, headers, last frame of a stream. */

import { type ErrorCode, LlmnodeError } from "../../protocol/errors.ts";
import type { EngineError } from "./engine-error.ts";
import type { AnswerHeaders } from "../request/headers.ts";
import type { Dialect } from "../request/routes.ts";

interface HttpMeaning {
  status: number;
  type: string;
  code: string | null;
}

const INVALID = "invalid_request_error";

/** Source of the rows: the status table of docs/api.md. */
export const HTTP_MEANING: Record<ErrorCode, HttpMeaning> = {
  bad_request: { status: 400, type: INVALID, code: null },
  model_not_found: { status: 404, type: INVALID, code: "model_not_found" },
  unknown_url: { status: 404, type: INVALID, code: "unknown_url" },
  method_not_allowed: { status: 405, type: INVALID, code: "unknown_url" },
  not_supported: { status: 501, type: INVALID, code: "not_supported" },
  request_too_large: { status: 413, type: INVALID, code: "request_too_large" },
  key_missing: { status: 401, type: INVALID, code: null },
  key_invalid: { status: 401, type: INVALID, code: "invalid_api_key" },
  forbidden: { status: 403, type: INVALID, code: "forbidden" },
  rate_limited: { status: 429, type: "rate_limit_exceeded", code: "rate_limit_exceeded" },
  quota_exceeded: { status: 429, type: "insufficient_quota", code: "insufficient_quota" },
  no_ready_replica: { status: 503, type: "service_unavailable", code: "no_ready_replica" },
  queue_full: { status: 503, type: "service_unavailable", code: "queue_full" },
  overloaded: { status: 503, type: "service_unavailable", code: "overloaded" },
  shutting_down: { status: 503, type: "service_unavailable", code: "shutting_down" },
  upstream_unreachable: { status: 502, type: "upstream_error", code: "upstream_unreachable" },
  upstream_broken: { status: 502, type: "upstream_error", code: "upstream_broken" },
  engine_crashed: { status: 502, type: "upstream_error", code: "engine_crashed" },
  upstream_auth: { status: 502, type: "upstream_error", code: "upstream_auth" },
  upstream_timeout: { status: 504, type: "timeout", code: "upstream_timeout" },
  cancelled: { status: 503, type: "service_unavailable", code: "cancelled" },
  // No client reads this answer; the number is for the log.
  client_gone: { status: 499, type: INVALID, code: "client_gone" },
  name_in_use: { status: 409, type: INVALID, code: "name_in_use" },
  worker_in_use: { status: 409, type: INVALID, code: "worker_in_use" },
  version_unsupported: { status: 409, type: INVALID, code: "version_unsupported" },
  bad_message: { status: 400, type: INVALID, code: "bad_message" },
  head_full: { status: 503, type: "service_unavailable", code: "head_full" },
  join_token_missing: { status: 401, type: INVALID, code: "join_token_missing" },
  join_token_wrong: { status: 401, type: INVALID, code: "join_token_wrong" },
  join_token_expired: { status: 401, type: INVALID, code: "join_token_expired" },
  join_token_revoked: { status: 401, type: INVALID, code: "join_token_revoked" },
  join_token_used_up: { status: 401, type: INVALID, code: "join_token_used_up" },
  credential_unknown: { status: 401, type: INVALID, code: "credential_unknown" },
  worker_forgotten: { status: 403, type: INVALID, code: "worker_forgotten" },
  wrong_fingerprint: { status: 403, type: INVALID, code: "wrong_fingerprint" },
  tls_mismatch: { status: 400, type: INVALID, code: "tls_mismatch" },
  clock_off: { status: 400, type: INVALID, code: "clock_off" },
  model_not_allowed: { status: 403, type: INVALID, code: "model_not_allowed" },
  not_found: { status: 404, type: INVALID, code: "not_found" },
  worker_not_found: { status: 404, type: INVALID, code: "worker_not_found" },
  last_replica: { status: 409, type: INVALID, code: "last_replica" },
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

/** SDKs would ask again otherwise, for nothing. */
const FINAL: readonly ErrorCode[] = ["engine_crashed", "quota_exceeded"];

/** An error in the terms of OpenAI's API, ours or the engine's. */
interface ErrorFields {
  message: string;
  type: string;
  param: string | null;
  code: string | null;
  /** The name that it is about; only in errors about one. */
  subject?: string;
}

/** An answer that is there whole. */
export interface WholeAnswer {
  status: number;
  headers: AnswerHeaders;
  /** Values of `set-cookie`, which cannot be one. */
  cookies?: readonly string[];
  body: string | Uint8Array<ArrayBuffer> | null;
}

/** An error of ours, as the client of a route expects errors. */
export function errorAnswer(error: LlmnodeError, dialect: Dialect = "openai"): WholeAnswer {
  const { status } = HTTP_MEANING[error.code];
  const headers: AnswerHeaders = { "content-type": "application/json" };
  if (error.allow !== null) headers["allow"] = error.allow;
  if (error.retryAfterMs !== null) {
    headers["retry-after"] = String(Math.max(1, Math.ceil(error.retryAfterMs / 1000)));
    headers["retry-after-ms"] = String(Math.max(1, Math.round(error.retryAfterMs)));
  }
  if (error.code === "key_missing" || error.code === "key_invalid") {
    headers["www-authenticate"] = "Bearer";
  }
  if (status === 501 || FINAL.includes(error.code)) headers["x-should-retry"] = "false";
  return { status, headers, body: bodyFor(dialect, fieldsOf(error), status) };
}

export function errorResponse(error: LlmnodeError, dialect?: Dialect): Response {
  const { status, headers, body } = errorAnswer(error, dialect);
  return new Response(body, { status, headers });
}

/** An engine's refusal: its status and words, in the form that the client expects. */
export function engineErrorBody(dialect: Dialect, error: EngineError, status: number): string {
  const type = error.type ?? (status < 500 ? INVALID : "server_error");
  return bodyFor(dialect, { ...error, type }, status);
}

/**
 * The last piece of a stream that broke. In a stream of events SDKs raise on any frame with an
 * `error` key; Anthropic's names the event.
 */
export function errorFrame(error: LlmnodeError, dialect: Dialect): string {
  const body = bodyFor(dialect, fieldsOf(error), HTTP_MEANING[error.code].status);
  if (dialect === "ollama") return `${body}\n`;
  if (dialect === "anthropic") return `event: error\ndata: ${body}\n\n`;
  if (dialect === "responses") {
    const { message, code, param } = fieldsOf(error);
    return `event: error\ndata: ${JSON.stringify({ type: "error", code, message, param })}\n\n`;
  }
  return `data: ${body}\n\n`;
}

function fieldsOf(error: LlmnodeError): ErrorFields {
  const { type, code } = HTTP_MEANING[error.code];
  const { message, param, subject } = error;
  return { message, type, param, code, ...(subject !== null && { subject }) };
}

function bodyFor(dialect: Dialect, fields: ErrorFields, status: number): string {
  const { message, type, code } = fields;
  switch (dialect) {
    case "anthropic":
      return JSON.stringify({ type: "error", error: { type: anthropicType(status), message } });
    case "ollama":
      return JSON.stringify({ error: message });
    case "tgi":
      return JSON.stringify({ error: message, error_type: code ?? type });
    case "openai":
    case "responses":
    case "engine":
      return JSON.stringify({ error: fields });
  }
}

/** Source: Anthropic's API reference, "Errors". */
function anthropicType(status: number): string {
  const known: Record<number, string> = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
  };
  return known[status] ?? (status < 500 ? "invalid_request_error" : "api_error");
}

function internal(): HttpMeaning {
  return { status: 500, type: "server_error", code: "internal" };
}
