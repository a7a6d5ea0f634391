/** What requests are refused for; each dialect turns these into its own status and shape. */

import { LlmnodeError, messageOf, type ErrorCode } from "../../protocol/errors.ts";

/** A field, or with null the whole body, that an engine's own check of the body refuses. */
export class FieldError extends LlmnodeError {
  readonly field: string | null;
  /** The name of the fault in pydantic, which vLLM and SGLang use. */
  readonly fault: string;

  constructor(field: string | null, fault: string, message: string) {
    super("bad_request", message, field === null ? {} : { param: field });
    this.field = field;
    this.fault = fault;
  }
}

export function invalidField(field: string | null, fault: string, message: string): FieldError {
  return new FieldError(field, fault, message);
}

/** A field whose value is of the right type, but cannot be. */
export function badValue(param: string, message: string): LlmnodeError {
  return new LlmnodeError("bad_request", message, { param });
}

/** A body whose `content-type` is not what the route reads. */
export function unsupportedMediaType(wanted = "application/json"): LlmnodeError {
  return new LlmnodeError("not_supported", `Unsupported Media Type: Only '${wanted}' is allowed`);
}

/** A request that needs more tokens than the model can hold. */
export function tooLong(maxModelLen: number, input: number, output: number): LlmnodeError {
  return new LlmnodeError(
    "request_too_large",
    `This model's maximum context length is ${maxModelLen} tokens. However, you requested ${output} output tokens and your prompt contains ${input} input tokens, for a total of ${input + output} tokens. Please reduce the length of the input prompt or the number of requested output tokens.`,
    { param: "input_tokens" },
  );
}

export function unknownModel(model: string): LlmnodeError {
  return new LlmnodeError("model_not_found", `The model \`${model}\` does not exist.`, {
    param: "model",
  });
}

/** What an answer says about anything that was thrown. */
export interface Failure {
  code: ErrorCode;
  /** As vLLM gives it; others differ in a few. */
  status: number;
  message: string;
  param: string | null;
  /** The methods that a path allows, where the method was wrong. */
  allow: string;
}

const STATUS: Partial<Record<ErrorCode, number>> = {
  bad_request: 400,
  not_supported: 400,
  request_too_large: 400,
  forbidden: 403,
  model_not_found: 404,
  unknown_url: 404,
  method_not_allowed: 405,
  overloaded: 503,
};

export function failureOf(error: unknown): Failure {
  const known = error instanceof LlmnodeError ? error : null;
  const code = known?.code ?? "internal";
  return {
    code,
    status: STATUS[code] ?? 500,
    message: known ? messageOf(known) : "Internal server error",
    param: known?.param ?? null,
    allow: known?.allow ?? "GET",
  };
}

/** The message with the field it is about, for engines that put it into words of their own. */
export function plainMessage(error: unknown): string {
  const { message } = failureOf(error);
  return error instanceof FieldError && error.field !== null
    ? `${error.field}: ${message}`
    : message;
}

/** FastAPI's own answers for paths and methods that it does not have; null for any other failure. */
export function frameworkAnswer({ code, status, allow }: Failure): Response | null {
  if (code === "unknown_url") return Response.json({ detail: "Not Found" }, { status });
  if (code !== "method_not_allowed") return null;
  return Response.json({ detail: "Method Not Allowed" }, { status, headers: { allow } });
}

/** The names of Python's http.HTTPStatus and of OpenAI's client errors, mixed as in vLLM. */
export function pythonError(error: unknown): { message: string; type: string } {
  const { code, status, message } = failureOf(error);
  if (error instanceof FieldError) {
    const place = error.field === null ? "('body',)" : `('body', '${error.field}')`;
    const fault = `{'type': '${error.fault}', 'loc': ${place}, 'msg': '${message}'}`;
    return { message: `1 validation error:\n  ${fault}`, type: "Bad Request" };
  }
  if (code === "not_supported") {
    return { message: `1 validation error:\n  ${message}`, type: "Bad Request" };
  }
  if (status === 404) return { message, type: "NotFoundError" };
  return { message, type: status < 500 ? "BadRequestError" : "InternalServerError" };
}
