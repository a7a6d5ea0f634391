import { expect, test } from "bun:test";
import fc from "fast-check";
import { lastMember, scanObject, stringAt } from "../../../src/proxy/request/json-scan.ts";

const encode = (text: string) => new TextEncoder().encode(text);

function valueOf(text: string, key: string): unknown {
  const bytes = encode(text);
  const span = lastMember(scanObject(bytes, new Set([key])), key);
  if (!span) return undefined;
  return JSON.parse(new TextDecoder().decode(bytes.subarray(span.start, span.end)));
}

test("finds members wherever they are", () => {
  expect(valueOf('{"model":"a"}', "model")).toBe("a");
  expect(valueOf(' {\n"x" : [1,{"model":"inner"}] ,"model" : "a" }\t', "model")).toBe("a");
  expect(valueOf(`{"messages":"${"x".repeat(1_000_000)}","model":"last"}`, "model")).toBe("last");
  expect(valueOf("{}", "model")).toBeUndefined();
});

test("of duplicate keys the last wins, escapes in keys count", () => {
  expect(valueOf('{"model":"a","model":"b"}', "model")).toBe("b");
  expect(valueOf('{"m\\u006fdel":"a"}', "model")).toBe("a");
});

test("a string is told from other values", () => {
  const bytes = encode('{"a":"x\\ny","b":7}');
  const spans = scanObject(bytes, new Set(["a", "b"]));
  const read = (key: string) => {
    const span = lastMember(spans, key);
    return span ? stringAt(bytes, span) : undefined;
  };
  expect([read("a"), read("b"), read("c")]).toEqual(["x\ny", null, undefined]);
});

test("100,000 levels of nesting do not exhaust the stack", () => {
  const deep = `${"[".repeat(100_000)}${"]".repeat(100_000)}`;
  const bytes = encode(`{"a":${deep},"model":"m"}`);
  expect(lastMember(scanObject(bytes, new Set(["model"])), "model")).toMatchObject({
    start: bytes.length - 4,
    end: bytes.length - 1,
  });
});

const bad = [
  "",
  " ",
  "[]",
  "null",
  '"x"',
  "1",
  "{",
  "{}x",
  "{} {}",
  '{"a"}',
  '{"a":}',
  '{"a":1,}',
  "{,}",
  '{"a":1 "b":2}',
  "{a:1}",
  "{'a':1}",
  '{"a":01}',
  '{"a":1.}',
  '{"a":.5}',
  '{"a":1e}',
  '{"a":-}',
  '{"a":+1}',
  '{"a":NaN}',
  '{"a":tru}',
  '{"a":"\n"}',
  '{"a":"\\x"}',
  '{"a":"\\u12g4"}',
  '{"a":"x}',
  '{"a":[1,]}',
  '{"a":[1}',
  '{"a":{"b":1]}',
  '{"a":[',
  '{"a":"\\',
  "\ufeff{}",
];

test.each(bad)("%j is no JSON object", (text) => {
  expect(() => scanObject(encode(text), new Set())).toThrow("at byte");
});

test("agrees with JSON.parse on random objects", () => {
  fc.assert(
    fc.property(fc.dictionary(fc.string(), fc.jsonValue()), fc.boolean(), (object, pretty) => {
      const text = pretty ? JSON.stringify(object, null, 2) : JSON.stringify(object);
      const parsed = JSON.parse(text) as Record<string, unknown>;
      for (const key of Object.keys(parsed)) expect(valueOf(text, key)).toEqual(parsed[key]);
    }),
    { numRuns: 500 },
  );
});

test("refuses and accepts random mutations exactly as JSON.parse does", () => {
  const isObject = (text: string) => {
    try {
      const value: unknown = JSON.parse(text);
      return typeof value === "object" && value !== null && !Array.isArray(value);
    } catch {
      return false;
    }
  };
  const scans = (text: string) => {
    try {
      scanObject(encode(text), new Set());
      return true;
    } catch {
      return false;
    }
  };
  const piece = fc.constantFrom(...'{}[],:"\\ \n\t0123456789.eE+-truefalsn\u0001xé');
  fc.assert(
    fc.property(
      fc.json(),
      fc.nat(),
      fc.nat(3),
      fc.array(piece, { maxLength: 3 }),
      (json, p, del, ins) => {
        const text = `{"k":${json}}`;
        const at = p % text.length;
        const mutated = text.slice(0, at) + ins.join("") + text.slice(at + del);
        expect([mutated, scans(mutated)]).toEqual([mutated, isObject(mutated)]);
      },
    ),
    { numRuns: 5000 },
  );
});

test("a byte order mark is a part of the name or text that it stands in", () => {
  const bytes = Buffer.from('{"model":"a","\ufeffmodel":"b","name":"\ufeffc"}');
  const members = scanObject(bytes, new Set(["model", "name"]));
  expect(members.map(({ key }) => key)).toEqual(["model", "name"]);
  expect(members.map((member) => stringAt(bytes, member))).toEqual(["a", "\ufeffc"]);
});
