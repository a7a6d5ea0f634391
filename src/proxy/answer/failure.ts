/** Sorts what can go wrong with one attempt at an engine, and says what may still help. */

import { LlmnodeError, messageOf, systemCode } from "../../protocol/errors.ts";
import type { LeaseOutcome } from "../../protocol/replica-request.ts";
import { type EngineError, readErrorBody } from "../record/engine-error.ts";
import { engineErrorBody, type WholeAnswer } from "../record/error-answer.ts";
import type { AnswerHeaders } from "../request/headers.ts";
import { type AnswerHead, fieldIn } from "../../util/http/exchange.ts";
import type { Dialect } from "../request/routes.ts";

export type Remedy =
  /** Nothing: the client gets the failure. */
  | "none"
  /** Another replica. */
  | "another"
  /** Another replica, but when that says the same, it is the client's. */
  | "second_opinion"
  /** A replica with a longer context, once. */
  | "longer_context"
  /** Any replica that has room, this one too. */
  | "room";

export interface AttemptFailure {
  outcome: LeaseOutcome;
  /** The engine's status; null when it gave none. */
  status: number | null;
  remedy: Remedy;
  /** When the engine wants to be asked again; null: it did not say. */
  retryAfterMs: number | null;
  /** What the client gets if nothing better comes. */
  respond: () => WholeAnswer | LlmnodeError;
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
  // Nothing accepted the connection in time.
  "ETIMEDOUT",
]);

/** `subject` is what was asked, for the client's words. */
export function connectionFailure(error: unknown, subject: "engine" | "service"): AttemptFailure {
  const refused = REFUSED.has(systemCode(error) ?? "");
  // It is the request that broke off, not the engine.
  if (error instanceof LlmnodeError && !refused) return failureOf(error, "rejected");
  const message = refused
    ? subject === "engine"
      ? "No engine with this model could be reached."
      : "The service could not be reached."
    : `The ${subject} closed the connection before it answered.`;
  const unreachable = new LlmnodeError("upstream_unreachable", message, { cause: error });
  const failure = failureOf(unreachable, refused ? "unreachable" : "broken");
  return { ...failure, remedy: "another", message: messageOf(error) };
}

/** A failure of ours that nothing helps against. */
export function failureOf(error: LlmnodeError, outcome: LeaseOutcome): AttemptFailure {
  const { message } = error;
  return {
    outcome,
    status: null,
    remedy: "none",
    retryAfterMs: null,
    respond: () => error,
    message,
  };
}

/** An answer that is not the client's answer. */
export function statusFailure(
  head: AnswerHead,
  body: Uint8Array,
  dialect: Dialect,
): AttemptFailure {
  const { status } = head;
  const error = readErrorBody(body, status);
  return engineFailure(error, { status, retryAfter: fieldIn(head, "retry-after"), dialect });
}

/** What an engine said in place of an answer, by the status that it gave or would have given. */
export function engineFailure(
  error: EngineError,
  given: { status: number; retryAfter: string | null; dialect: Dialect },
): AttemptFailure {
  const { status, retryAfter } = given;
  const { message } = error;
  const found = { ...meaningOf(status, error), status, message };
  if (found.outcome === "auth") {
    const refused = "The engine rejected the API key that its worker uses.";
    const respond = () => new LlmnodeError("upstream_auth", refused);
    return { ...found, retryAfterMs: null, respond };
  }
  // No API client follows a redirect to an address of the engine's own.
  const shown = status < 400 ? 502 : status;
  return {
    ...found,
    retryAfterMs: secondsOf(retryAfter),
    respond() {
      const headers: AnswerHeaders = { "content-type": "application/json" };
      if (retryAfter !== null) headers["retry-after"] = retryAfter;
      return { status: shown, headers, body: engineErrorBody(given.dialect, error, shown) };
    },
  };
}

function meaningOf(status: number, error: EngineError): { outcome: LeaseOutcome; remedy: Remedy } {
  switch (status) {
    case 401:
    case 403:
      return { outcome: "auth", remedy: "another" };
    case 429:
    case 503:
      return { outcome: "busy", remedy: "room" };
    case 502:
    case 504:
      return { outcome: "bad_gateway", remedy: "another" };
  }
  // llama-server has said it with 500.
  if ((status === 400 || status === 413 || status === 422 || status === 500) && isTooLong(error))
    return { outcome: "rejected", remedy: "longer_context" };
  if (status < 400 || status >= 500) return { outcome: "engine_error", remedy: "second_opinion" };
  const remedy = status === 404 && lacksModel(error) ? "second_opinion" : "none";
  return { outcome: "rejected", remedy };
}

/**
 * What engines say of a prompt that is longer than they take: vLLM ("maximum context length is",
 * "longer than the maximum model length"), SGLang ("longer than the model's context length",
 * "exceeds the maximum allowed length"), TGI ("`inputs` must have less than N tokens", "`inputs`
 * tokens + `max_new_tokens` must be <="), llama-server ("exceeds the available context size",
 * "Context size has been exceeded"), Ollama ("exceeds the context length"), TensorRT-LLM ("exceeds
 * maximum sequence length", "should not exceed max_num_tokens"), OpenAI's own code.
 */
const TOO_LONG = [
  /context_length_exceeded|exceed_context_size/,
  /(maximum|model'?s?|available) context (length|size|window)/i,
  /exceed\w* (the )?(maximum|max|available|model'?s?)?[ _]?(context|sequence|allowed|input|prompt|num)[ _]?(length|size|len|tokens|window)/i,
  /context (length|size|window) (has been |is |was )?exceeded/i,
  /(prompt|input)\b.{0,40}longer than the (maximum|model)/i,
  /`inputs` (must have less than|tokens \+ `max_new_tokens` must be)/,
  /(should|must|can) ?not exceed max_(num_tokens|seq_len|input_len)/i,
];

function isTooLong({ message, type, code }: EngineError): boolean {
  return TOO_LONG.some((words) => words.test(`${code ?? ""} ${type ?? ""} ${message}`));
}

/** vLLM: "The model `m` does not exist."; Ollama: "model 'm' not found"; OpenAI's own code. */
function lacksModel({ message, code }: EngineError): boolean {
  return (
    code === "model_not_found" ||
    /\bmodel\b.{0,600}\b(does not exist|not found|is not served|not loaded)/is.test(message)
  );
}

const MAX_RETRY_AFTER_MS = 3_600_000;

/** `Retry-After`, in seconds or as a date (RFC 9110, 10.2.3), in milliseconds. */
function secondsOf(text: string | null): number | null {
  if (text === null || !/^(\d+$|[A-Z][a-z]{2}, )/.test(text)) return null;
  const seconds = Number(text);
  const ms = Number.isNaN(seconds) ? Date.parse(text) - Date.now() : seconds * 1000;
  return Number.isNaN(ms) ? null : Math.min(Math.max(0, ms), MAX_RETRY_AFTER_MS);
}

/** Whether an engine's refusal is about a field that we added. */
export function refusesStreamOptions(failure: AttemptFailure): boolean {
  const { status, message } = failure;
  return (status === 400 || status === 422) && /stream_options|include_usage/.test(message);
}
