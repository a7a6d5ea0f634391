/** The JSON that requests to the head itself carry, read field by field. */

import { LlmnodeError } from "../../protocol/errors.ts";
import { cleanLine } from "../../util/text.ts";
import { isRecord } from "../../util/json.ts";

export type Body = Record<string, unknown>;

const MAX_BODY_BYTES = 16 * 1024;
const MAX_TEXT = 200;

/** The JSON object that a request brings. Throws `bad_request`. */
export async function bodyOf(request: Request): Promise<Body> {
  const type = request.headers.get("content-type") ?? "";
  if (!/^application\/json\s*(;|$)/i.test(type)) {
    throw new LlmnodeError("bad_request", "The content type must be application/json.");
  }
  const length = Number(request.headers.get("content-length") ?? Number.NaN);
  if (!(length <= MAX_BODY_BYTES)) throw new LlmnodeError("bad_request", "The body is too long.");
  let value: unknown;
  try {
    value = await request.json();
  } catch {
    throw new LlmnodeError("bad_request", "The body is not JSON.");
  }
  if (isRecord(value)) return { ...value };
  throw new LlmnodeError("bad_request", "The body must be a JSON object.");
}

/** A text of one line. Throws `bad_request`. */
export function text(body: Body, key: string): string {
  const value = body[key];
  if (isText(value)) return value;
  throw bad(key, `${key} must be a text of 1 to ${MAX_TEXT} characters.`);
}

/** As `text`, for what may be left out. */
export function optionalText(body: Body, key: string): string | null {
  return body[key] === undefined || body[key] === null ? null : text(body, key);
}

/** Some texts, at least one, each once. Throws `bad_request`. */
export function texts(body: Body, key: string, max: number): string[] {
  const value = body[key];
  if (Array.isArray(value) && value.length > 0 && value.length <= max && value.every(isText)) {
    return [...new Set<string>(value)];
  }
  throw bad(key, `${key} must be a list of 1 to ${max} texts of at most ${MAX_TEXT} characters.`);
}

/** A whole number above zero that a date can bear, or null. Throws `bad_request`. */
export function number(body: Body, key: string): number | null {
  const value = body[key];
  if (value === undefined || value === null) return null;
  if (typeof value === "number" && Number.isInteger(value) && value > 0 && value <= 1e13) {
    return value;
  }
  throw bad(key, `${key} must be a whole number above zero.`);
}

/** False where it is left out. Throws `bad_request`. */
export function flag(body: Body, key: string): boolean {
  const value = body[key] ?? false;
  if (typeof value === "boolean") return value;
  throw bad(key, `${key} must be true or false.`);
}

function isText(value: unknown): value is string {
  return typeof value === "string" && value !== "" && cleanLine(value, MAX_TEXT) === value;
}

export function bad(param: string, message: string): LlmnodeError {
  return new LlmnodeError("bad_request", message, { param });
}
