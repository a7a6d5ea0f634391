/** Fuzzes the scan of request bodies, against `JSON.parse`. */

import { isUtf8 } from "node:buffer";
import { Names } from "../../src/proxy/json/names.ts";
import { ObjectScan } from "../../src/proxy/json/scan.ts";
import { JsonScanError } from "../../src/proxy/json/tokens.ts";
import { skipValue } from "../../src/proxy/json/walk.ts";
import { askForUsage, splice } from "../../src/proxy/request/edits.ts";
import { carryOut } from "../../src/util/flow/slices.ts";
import { mayThrow, must, mustEqual, pure } from "./fuzzer.ts";
import { damaged, damagedBytes, jsonText, oddText, type Random } from "./random.ts";

const KEYS = ["model", "stream", "stream_options", "messages", "backend"];
const WANTED = new Names(KEYS, { walked: ["messages"] });
const SYNTAX = ["{", "}", "[", "]", ",", ":", '"', "\\", "\\u00e9", "1e5", "-", ".", "tru", "null"];

export const json = pure(
  "json",
  "the body scan takes and finds what JSON.parse does, and edits change nothing else",
  (random) => {
    const bytes = bodyBytes(random);
    const value = isUtf8(bytes) ? parseObject(bytes.toString()) : undefined;
    const scan = scanned(bytes);
    const inSlices = scanned(bytes, random.pick([1, 2, 3, 5, 8, 64]));
    mustEqual(known(inSlices), known(scan), { what: "a scan in slices", input: bytes });
    // What is no UTF-8 is refused before it is scanned: it must only not harm.
    if (!isUtf8(bytes)) return;
    // JSON.parse leaves a byte order mark alone; decoding takes it away.
    must((scan !== null) === (value !== undefined), "taken by one of both only", bytes);
    if (scan === null || value === undefined) return;
    checkMembers(bytes, scan, value);
    checkEdits(bytes, value);
  },
);

function scanned(bytes: Uint8Array, budget = Infinity, single: string | null = null) {
  return mayThrow(
    () => {
      const scan = new ObjectScan(bytes, WANTED, single);
      for (let turns = 0; !scan.run(budget); turns += 1) {
        must(turns <= bytes.length, "the scan does not get on", bytes);
      }
      return scan;
    },
    (error) => error instanceof JsonScanError,
  );
}

function known(scan: ObjectScan | null) {
  return (
    scan && { open: scan.open, isEmpty: scan.isEmpty, members: KEYS.map((key) => scan.get(key)) }
  );
}

function bodyBytes(random: Random): Buffer {
  const members = random.several(5, () => {
    const key = random.chance(0.7) ? random.pick(KEYS) : oddText(random, 2);
    const isPlain = random.chance(0.8);
    const name = isPlain ? JSON.stringify(key) : `"${[...key].map(escaped).join("")}"`;
    return `${name}:${random.chance(0.2) ? '{"include_usage":false}' : jsonText(random)}`;
  });
  const text = `{${members.join(",")}}`;
  const bytes = Buffer.from(random.chance(0.5) ? text : damaged(random, text, SYNTAX));
  const sent = random.chance(0.9) ? bytes : damagedBytes(random, bytes);
  // Not aligned, as a piece of something larger is.
  const offset = random.below(4);
  const room = Buffer.alloc(sent.length + offset);
  sent.copy(room, offset);
  return room.subarray(offset);
}

function escaped(char: string): string {
  return char.length > 1 ? char : `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`;
}

function parseObject(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null && !Array.isArray(value)
      ? Object.fromEntries(Object.entries(value))
      : undefined;
  } catch {
    return undefined; // what is no JSON has no value
  }
}

function checkMembers(bytes: Buffer, scan: ObjectScan, value: Record<string, unknown>): void {
  for (const key of KEYS) {
    const member = scan.get(key);
    must((member !== undefined) === Object.hasOwn(value, key), `${key} is seen by one only`, bytes);
    if (!member) continue;
    const text = bytes.subarray(member.start, member.end).toString();
    mustEqual(JSON.parse(text), value[key], { what: `the value of ${key}`, input: bytes });
    must(skipValue(bytes, member.start) === member.end, `the end of ${key}`, bytes);
    for (const end of member.elementEnds) {
      const list: unknown = JSON.parse(`${bytes.subarray(member.start, end).toString()}]`);
      must(Array.isArray(list), "an element's end", bytes);
    }
  }
}

function checkEdits(bytes: Buffer, value: Record<string, unknown>): void {
  const body = new Uint8Array(bytes);
  const scan = scanned(body, Infinity, "backend");
  must(scan !== null, "a scan that blanks out", bytes);
  const backend = scan.get("backend");
  if (backend) scan.blank(backend);
  const { backend: _, ...rest } = value;
  const without: unknown = JSON.parse(Buffer.from(body).toString());
  mustEqual(without, rest, { what: "what is left without backend", input: bytes });
  const edit = askForUsage(body, scan);
  const asked: unknown = JSON.parse(
    Buffer.from(carryOut(splice(body, edit ? [edit] : []))).toString(),
  );
  const options = value["stream_options"];
  const kept =
    typeof options === "object" && options !== null && !Array.isArray(options) ? options : {};
  const wanted = { ...rest, stream_options: { ...kept, include_usage: true } };
  mustEqual(asked, wanted, { what: "a body that asks for usage", input: bytes });
}
