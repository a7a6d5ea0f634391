/** Reads JSON bodies and their single fields. */

import { badValue, invalidField, unknownModel, unsupportedMediaType } from "./refuse.ts";
import { isRecord } from "../../util/json.ts";

export type JsonObject = Record<string, unknown>;

/** What requests are checked against. */
export interface Serving {
  /** As they were named at the start, adapters included. */
  models: readonly string[];
  maxModelLen: number;
  refuseStreamOptions: boolean;
  /** The model that a client's name means, or null. */
  find: (named: string) => string | null;
}

/**
 * The body; with `strictType` it must be labelled `application/json`. Throws `bad_request` and
 * `not_supported`.
 */
export async function readBody(req: Request, strictType: boolean): Promise<JsonObject> {
  if (strictType && mediaType(req) !== "application/json") throw unsupportedMediaType();
  const body: unknown = await req.json().catch((error: unknown) => {
    // A client that left while it was sending is no bad request; no client reads the answer anyway.
    throw error instanceof SyntaxError
      ? invalidField(null, "json_invalid", "JSON decode error")
      : error;
  });
  if (!isObject(body)) {
    throw invalidField(null, "model_attributes_type", "Input should be a valid dictionary");
  }
  return body;
}

/** The type of a body, without its parameters. */
export function mediaType(req: Request): string {
  const type = req.headers.get("content-type") ?? "";
  return type.split(";", 1)[0]?.trim().toLowerCase() ?? "";
}

/**
 * The model a body names, the first one if it names none: as the client names it and as the engine
 * knows it. Throws `model_not_found`.
 */
export function modelOf(body: JsonObject, serving: Serving) {
  const named = body["model"] ?? serving.models[0];
  if (typeof named !== "string") {
    throw invalidField("model", "string_type", "Input should be a valid string");
  }
  const model = serving.find(named);
  if (model === null) throw unknownModel(named);
  return { named, model };
}

export function isObject(value: unknown): value is JsonObject {
  return isRecord(value);
}

/** A member that is an object; an empty one in the place of anything else. */
export function objectIn(body: JsonObject, field: string): JsonObject {
  const value = body[field];
  return isObject(value) ? value : {};
}

export function flag(body: JsonObject, field: string, otherwise = false): boolean {
  const value = body[field] ?? otherwise;
  if (typeof value !== "boolean") {
    throw invalidField(field, "bool_type", "Input should be a valid boolean");
  }
  return value;
}

/** A whole number of at least `min`, or null where there is none. */
export function integer(body: JsonObject, field: string, min = 1): number | null {
  const value = body[field] ?? null;
  if (value === null) return null;
  if (typeof value !== "number" || !Number.isSafeInteger(value)) {
    throw invalidField(field, "int_type", "Input should be a valid integer");
  }
  if (value < min) throw badValue(field, `${field} must be at least ${min}, got ${value}.`);
  return value;
}

/** A text that must be there. */
export function text(body: JsonObject, field: string): string {
  const value = body[field];
  if (value === undefined) throw invalidField(field, "missing", "Field required");
  if (typeof value !== "string") {
    throw invalidField(field, "string_type", "Input should be a valid string");
  }
  return value;
}
