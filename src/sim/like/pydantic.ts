/** Words of the Python engines: what pydantic says about a body, how errors are called. */

import { failureOf, FieldError } from "../core/refuse.ts";

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
