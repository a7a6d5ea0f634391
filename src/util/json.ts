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

/** The fields of each in a list; nothing of anything else. */
export function list(value: unknown): JsonRecord[] {
  return Array.isArray(value) ? value.map(fieldsIn) : [];
}

/** A text that is not empty. */
export function text(value: unknown): string | null {
  return typeof value === "string" && value !== "" ? value : null;
}

export function texts(value: unknown): string[] {
  return Array.isArray(value) ? value.flatMap((entry) => text(entry) ?? []) : [];
}

export function number(value: unknown): number | null {
  return typeof value === "number" && Number.isFinite(value) ? value : null;
}

/** Undefined for what is not JSON. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
