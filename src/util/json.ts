/** Checks what a JSON value from outside is, before anything in it is trusted. */

export type JsonRecord = Record<string, unknown>;

/** An object, not null and not a list. */
export function isRecord(value: unknown): value is JsonRecord {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** An object's fields; none of anything else. */
export function fieldsIn(value: unknown): JsonRecord {
  return isRecord(value) ? value : {};
}

/** Undefined for what is not JSON. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
