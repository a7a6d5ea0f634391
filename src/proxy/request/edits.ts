/** The few changes that a request's body may undergo, as splices of its bytes. */

import { lastMember, type Member, scanObject, stringAt } from "./json-scan.ts";

/** Puts `text` in place of `bytes[start, end)`. */
export interface Edit {
  start: number;
  end: number;
  text: string;
}

const encoder = new TextEncoder();

/** The body with the edits made; they must not overlap. Without edits the same bytes. */
export function splice(
  bytes: Uint8Array<ArrayBuffer>,
  edits: readonly Edit[],
): Uint8Array<ArrayBuffer> {
  if (edits.length === 0) return bytes;
  const parts: Uint8Array[] = [];
  let at = 0;
  for (const edit of [...edits].sort((a, b) => a.start - b.start)) {
    parts.push(bytes.subarray(at, edit.start), encoder.encode(edit.text));
    at = edit.end;
  }
  parts.push(bytes.subarray(at));
  return Buffer.concat(parts);
}

/**
 * Makes a stream's request ask for usage: OpenAI's `stream_options.include_usage`. Null when it
 * asks for it already. `members` are those of a scan that wanted `stream_options`.
 */
export function askForUsage(bytes: Uint8Array, members: readonly Member[]): Edit | null {
  const options = lastMember(members, "stream_options");
  if (!options) return insertFirst(bytes, '"stream_options":{"include_usage":true}');
  if (bytes[options.start] !== OPEN_OBJECT) {
    return { start: options.start, end: options.end, text: '{"include_usage":true}' };
  }
  const inner = bytes.subarray(options.start, options.end);
  const flag = lastMember(scanObject(inner, INCLUDE_USAGE), "include_usage");
  if (!flag) {
    const edit = insertFirst(inner, '"include_usage":true');
    return { ...edit, start: edit.start + options.start, end: edit.end + options.start };
  }
  if (inner[flag.start] === TRUE) return null;
  return { start: options.start + flag.start, end: options.start + flag.end, text: "true" };
}

/** Takes every member of a name out of the object, with the comma that goes with it. */
export function removeMember(bytes: Uint8Array<ArrayBuffer>, key: string): Uint8Array<ArrayBuffer> {
  const wanted = new Set([key]);
  let rest = bytes;
  for (;;) {
    const member = lastMember(scanObject(rest, wanted), key);
    if (!member) return rest;
    let { keyStart: start, end } = member;
    const after = nextInk(rest, end, 1);
    if (rest[after] === COMMA) end = after + 1;
    else {
      const before = nextInk(rest, start - 1, -1);
      if (rest[before] === COMMA) start = before;
    }
    rest = splice(rest, [{ start, end, text: "" }]);
  }
}

/** The string value of a member, or null when there is none or it is something else. */
export function textOf(bytes: Uint8Array, members: readonly Member[], key: string): string | null {
  const member = lastMember(members, key);
  return member ? stringAt(bytes, member) : null;
}

const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;
const COMMA = 0x2c;
const TRUE = 0x74;
const INCLUDE_USAGE: ReadonlySet<string> = new Set(["include_usage"]);

/** Inserts a member behind the object's opening brace. */
export function insertFirst(bytes: Uint8Array, member: string): Edit {
  const open = nextInk(bytes, 0, 1);
  const isEmpty = bytes[nextInk(bytes, open + 1, 1)] === CLOSE_OBJECT;
  return { start: open + 1, end: open + 1, text: isEmpty ? member : `${member},` };
}

/** The next position, in the direction of `step`, that holds no white space. */
function nextInk(bytes: Uint8Array, from: number, step: 1 | -1): number {
  let at = from;
  for (;;) {
    const byte = bytes[at];
    if (byte !== 0x20 && byte !== 0x0a && byte !== 0x0d && byte !== 0x09) return at;
    at += step;
  }
}
