/** The few changes that a request's body may undergo, as splices of its bytes. */

import { Names } from "../json/names.ts";
import { type Member, type ScannedObject, scanObject, stringAt } from "../json/scan.ts";
import type { Plan } from "../../util/flow/slices.ts";
import { Copy } from "../../util/flow/bulk.ts";

/** Puts `text` in place of `bytes[start, end)`. */
export interface Edit {
  start: number;
  end: number;
  text: string;
}

const encoder = new TextEncoder();

/** The body with the edits made; they must not overlap. Without edits the same bytes. */
export function* splice(
  bytes: Uint8Array<ArrayBuffer>,
  edits: readonly Edit[],
): Plan<Uint8Array<ArrayBuffer>> {
  if (edits.length === 0) return bytes;
  const copy = new Copy(partsOf(bytes, edits));
  yield copy;
  return copy.bytes;
}

/** The same as parts, of which most are views of the bytes. */
export function partsOf(bytes: Uint8Array, edits: readonly Edit[]): Uint8Array[] {
  const parts: Uint8Array[] = [];
  let at = 0;
  for (const edit of [...edits].sort((a, b) => a.start - b.start)) {
    parts.push(bytes.subarray(at, edit.start), encoder.encode(edit.text));
    at = edit.end;
  }
  parts.push(bytes.subarray(at));
  return parts;
}

/** What is longer is no options of ours: it is passed on as it is. */
const MAX_OPTIONS_BYTES = 64 * 1024;

/**
 * Makes a stream's request ask for usage: OpenAI's `stream_options.include_usage`. Null when it
 * asks for it already. `object` is from a scan that wanted `stream_options`.
 */
export function askForUsage(bytes: Uint8Array, object: ScannedObject): Edit | null {
  const options = object.get("stream_options");
  if (!options) return insertFirst(object, '"stream_options":{"include_usage":true}');
  if (bytes[options.start] !== OPEN_OBJECT) {
    return { start: options.start, end: options.end, text: '{"include_usage":true}' };
  }
  if (options.end - options.start > MAX_OPTIONS_BYTES) return null;
  const inner = bytes.subarray(options.start, options.end);
  const scanned = scanObject(inner, INCLUDE_USAGE);
  const flag = scanned.get("include_usage");
  if (!flag) {
    const edit = insertFirst(scanned, '"include_usage":true');
    return { ...edit, start: edit.start + options.start, end: edit.end + options.start };
  }
  if (inner[flag.start] === TRUE) return null;
  return { start: options.start + flag.start, end: options.start + flag.end, text: "true" };
}

/**
 * The string value of a member, or null when there is none or it is something else, such as a text
 * that is too long to name anything.
 */
export function textOf(bytes: Uint8Array, member: Member | undefined): string | null {
  if (!member || member.end - member.start > MAX_TEXT_BYTES) return null;
  return stringAt(bytes, member);
}

const MAX_TEXT_BYTES = 64 * 1024;
const OPEN_OBJECT = 0x7b;
const TRUE = 0x74;
const INCLUDE_USAGE = new Names(["include_usage"]);

/** Inserts a member behind the object's opening brace. */
export function insertFirst({ open, isEmpty }: ScannedObject, member: string): Edit {
  return { start: open + 1, end: open + 1, text: isEmpty ? member : `${member},` };
}
