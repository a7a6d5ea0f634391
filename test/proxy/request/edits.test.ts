import { expect, test } from "bun:test";
import fc from "fast-check";
import { Names } from "../../../src/proxy/json/names.ts";
import { ObjectScan, scanObject } from "../../../src/proxy/json/scan.ts";
import { askForUsage, type Edit, splice } from "../../../src/proxy/request/edits.ts";
import { carryOut } from "../../../src/util/flow/slices.ts";

const encode = (text: string) => new TextEncoder().encode(text);
const decode = (bytes: Uint8Array) => new TextDecoder().decode(bytes);

const STREAM_OPTIONS = new Names(["stream_options"]);

function edited(bytes: Uint8Array<ArrayBuffer>, edit: Edit | null) {
  return carryOut(splice(bytes, edit ? [edit] : []));
}

function asking(text: string): string {
  const bytes = encode(text);
  return decode(edited(bytes, askForUsage(bytes, scanObject(bytes, STREAM_OPTIONS))));
}

function withoutBackend(text: string): string {
  const bytes = encode(text);
  const scan = new ObjectScan(bytes, new Names(["backend"]), "backend");
  scan.run();
  const member = scan.get("backend");
  if (member) scan.blank(member);
  expect(scan.isEmpty).toBe(/^[{}\s]*$/.test(decode(bytes)));
  return decode(bytes);
}

test.each([
  ['{"model":"m"}', '{"stream_options":{"include_usage":true},"model":"m"}'],
  [' {\n "a":1}', ' {"stream_options":{"include_usage":true},\n "a":1}'],
  ['{"stream_options":{"include_usage":true}}', '{"stream_options":{"include_usage":true}}'],
  [
    '{"stream_options":{"include_usage":false},"x":1e400}',
    '{"stream_options":{"include_usage":true},"x":1e400}',
  ],
  ['{"stream_options":{}}', '{"stream_options":{"include_usage":true}}'],
  ['{"stream_options":{"c":1}}', '{"stream_options":{"include_usage":true,"c":1}}'],
  ['{"stream_options":null}', '{"stream_options":{"include_usage":true}}'],
  [
    '{"stream_options":{},"stream_options":null}',
    '{"stream_options":{},"stream_options":{"include_usage":true}}',
  ],
  [
    '{"messages":[{"stream_options":1}]}',
    '{"stream_options":{"include_usage":true},"messages":[{"stream_options":1}]}',
  ],
])("%s asks for usage", (before, after) => {
  expect(asking(before)).toBe(after);
});

const blank = (text: string) => " ".repeat(text.length);

test.each([
  ['{"backend":"vllm","model":"m"}', `{${blank('"backend":"vllm",')}"model":"m"}`],
  ['{"model":"m", "backend":"vllm"}', `{"model":"m"${blank(', "backend":"vllm"')}}`],
  ['{"a":1 , "backend" : "x" , "b":2}', `{"a":1 , ${blank('"backend" : "x" ,')} "b":2}`],
  ['{"backend":1}', `{${blank('"backend":1')}}`],
  ['{"backend":1,"backend":2}', `{${blank('"backend":1,"backend":2')}}`],
  ['{"a":1,"backend":1,"backend":2}', `{"a":1${blank(',"backend":1,"backend":2')}}`],
  ['{"backend":1,"a":1,"backend":2}', `{${blank('"backend":1,')}"a":1${blank(',"backend":2')}}`],
  ['{"a":{"backend":1},"backend":2}', `{"a":{"backend":1}${blank(',"backend":2')}}`],
  ['{"a":1}', '{"a":1}'],
])("%s without its backend", (before, after) => {
  expect(withoutBackend(before)).toBe(after);
});

/** Numbers as clients write them, which a parser would change. */
const number = fc.constantFrom("9007199254740993", "1.0", "1e400", "-0", "0.10", "1E5");
const member = fc.tuple(fc.string(), fc.oneof(fc.json(), number), fc.constantFrom("", " ", "\n\t"));

test("outside the edits every byte stays, and the object means the same otherwise", () => {
  const place = fc.tuple(fc.array(member, { maxLength: 6 }), fc.array(member, { maxLength: 6 }));
  const options = fc.constantFrom(null, "null", "{}", '{"include_usage":false}', '{"x":[1]}');
  const backend = fc.constantFrom(null, '"vllm"', "7");
  fc.assert(
    fc.property(place, options, backend, ([before, after], streamOptions, backendValue) => {
      const write = ([key, value, space]: [string, string, string]) =>
        `${space}${JSON.stringify(key)}${space}:${value}`;
      const parts = [
        ...before.map(write),
        ...(streamOptions === null ? [] : [`"stream_options":${streamOptions}`]),
        ...(backendValue === null ? [] : [`"backend":${backendValue}`]),
        ...after.map(write),
      ].filter(
        (part) =>
          !/^\s*"(stream_options|backend)"\s*:/.test(part) || /:(null|\{|"vllm"|7)/.test(part),
      );
      const text = `{${parts.join(",")}}`;
      const result = withoutBackend(asking(text));
      const expected = JSON.parse(text) as Record<string, unknown>;
      delete expected["backend"];
      const given: unknown = expected["stream_options"];
      const kept = typeof given === "object" && given !== null ? given : {};
      expected["stream_options"] = { ...kept, include_usage: true };
      expect(JSON.parse(result)).toEqual(expected);
      // The members around the edits stand there as they were written.
      for (const part of [...before, ...after].map(write)) {
        if (!/"(stream_options|backend)"/.test(part)) expect(result).toContain(part.trim());
      }
    }),
    { numRuns: 1000 },
  );
});

test("20 MB are edited", () => {
  const bytes = encode(`{"messages":"${"x".repeat(20_000_000)}","model":"m"}`);
  const result = edited(bytes, askForUsage(bytes, scanObject(bytes, STREAM_OPTIONS)));
  expect(result.length).toBe(bytes.length + '"stream_options":{"include_usage":true},'.length);
  expect(result.subarray(result.length - 100)).toEqual(bytes.subarray(bytes.length - 100));
});

test("options of 100 KB are passed on as they are", () => {
  const text = `{"stream_options":{"x":"${"x".repeat(100_000)}"}}`;
  expect(asking(text)).toBe(text);
});
