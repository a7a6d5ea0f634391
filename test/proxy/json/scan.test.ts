import { expect, test } from "bun:test";
import fc from "fast-check";
import { Names } from "../../../src/proxy/json/names.ts";
import { ObjectScan, scanObject, stringAt } from "../../../src/proxy/json/scan.ts";
import { MAX_DEPTH, skipValue } from "../../../src/proxy/json/walk.ts";

const encode = (text: string) => new TextEncoder().encode(text);

function valueOf(text: string, key: string): unknown {
  const bytes = encode(text);
  const span = scanObject(bytes, new Names([key])).get(key);
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

test.each([
  ['"\\u006dodel"', "model"],
  ['"mode\\u006C"', "model"],
  ['"\\u006d\\u006f\\u0064\\u0065\\u006c"', "model"],
  ['"mode\\u006cs"', null],
  ['"model\\n"', null],
  ['"\\u016dodel"', null],
  ['"caf\\u00e9"', "café"],
  ['"\\u0063afé"', "café"],
  ['"\\/\\b\\f\\n\\r\\t\\\\\\""', '/\b\f\n\r\t\\"'],
  ['"\\ud83d\\ude00"', "😀"],
  ['""', ""],
])("the name %s is found as %p", (written, name) => {
  const known = ["model", "café", '/\b\f\n\r\t\\"', "😀", ""];
  const object = scanObject(encode(`{${written}:1}`), new Names(known));
  expect(known.filter((text) => object.get(text))).toEqual(name === null ? [] : [name]);
});

test("a string is told from other values", () => {
  const bytes = encode('{"a":"x\\ny","b":7}');
  const object = scanObject(bytes, new Names(["a", "b"]));
  const read = (key: string) => {
    const span = object.get(key);
    return span ? stringAt(bytes, span) : undefined;
  };
  expect([read("a"), read("b"), read("c")]).toEqual(["x\ny", null, undefined]);
});

test("512 levels of nesting are taken, one more is not", () => {
  const nested = (levels: number, open = "[", close = "]") =>
    encode(`{"a":${open.repeat(levels - 1)}0${close.repeat(levels - 1)},"model":"m"}`);
  const names = new Names(["model"]);
  for (const bytes of [nested(MAX_DEPTH), nested(MAX_DEPTH, '{"a":', "}")]) {
    const end = bytes.length - 1;
    expect(scanObject(bytes, names).get("model")).toMatchObject({ start: end - 3, end });
  }
  expect(() => scanObject(nested(MAX_DEPTH + 1), names)).toThrow(
    "nested deeper than 512 levels at byte 516",
  );
  expect(() => scanObject(encode(`{"a":${"[".repeat(10_000_000)}`), names)).toThrow("at byte 516");
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

/** Scans in slices of `budget` bytes; throws where it does not get on. */
function scanIn(budget: number, bytes: Uint8Array, names = new Names([])): ObjectScan {
  const scan = new ObjectScan(bytes, names);
  // A token is never cut, which may take as many turns as there are kinds of them.
  for (let turns = 0; !scan.run(budget); turns += 1) {
    if (turns > bytes.length) throw new Error(`no end after ${turns} turns`);
  }
  return scan;
}

test.each(bad)("%j is no JSON object", (text) => {
  for (const budget of [1, 2, 3, Infinity]) {
    expect(() => scanIn(budget, encode(text))).toThrow("at byte");
  }
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

/** What JSON.parse makes of a text that is one object, else undefined. */
function parsed(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    const isObject = typeof value === "object" && value !== null && !Array.isArray(value);
    return isObject ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined; // what is no JSON has no value
  }
}

/** What a scan in slices finds as the members of these names, else undefined. */
function scanned(text: string, names: readonly string[], { budget = Infinity, offset = 0 } = {}) {
  const room = Buffer.alloc(Buffer.byteLength(text) + offset);
  const bytes = room.subarray(offset);
  bytes.write(text);
  let scan: ObjectScan;
  try {
    scan = scanIn(budget, bytes, new Names(names, { walked: names }));
  } catch (error) {
    if (String(error).includes("at byte")) return undefined;
    throw error;
  }
  return names.flatMap((name) => {
    const member = scan.get(name);
    if (!member) return [];
    const { start, end, nameStart, elementEnds, dataBytes } = member;
    expect(skipValue(bytes, start)).toBe(end);
    const value: unknown = JSON.parse(bytes.toString("utf8", start, end));
    return [{ name, value, start, end, nameStart, elementEnds, dataBytes }];
  });
}

const piece = fc.constantFrom(...'{}[],:"\\ \n\t0123456789.eE+-truefalsn\u0001xé');
const mutated = fc
  .tuple(fc.json(), fc.nat(), fc.nat(3), fc.array(piece, { maxLength: 3 }), fc.boolean())
  .map(([json, p, del, ins, isWhole]) => {
    const text = `{"k":${json},"l":[${json},-1.50e+07,"\\u00e9\\""]}`;
    if (isWhole) return text;
    const at = p % text.length;
    return text.slice(0, at) + ins.join("") + text.slice(at + del);
  });

test("takes, refuses and finds in any slices what JSON.parse does", () => {
  const slices = fc.record({
    budget: fc.oneof(fc.integer({ min: 1, max: 8 }), fc.integer({ min: 9, max: 100 })),
    offset: fc.nat(3),
  });
  fc.assert(
    fc.property(mutated, slices, (text, how) => {
      const value = parsed(text);
      const found = scanned(text, ["k", "l"]);
      expect([text, found !== undefined]).toEqual([text, value !== undefined]);
      expect(scanned(text, ["k", "l"], how)).toEqual(found);
      if (found === undefined || value === undefined) return;
      const wanted = Object.entries(value).filter(([key]) => key === "k" || key === "l");
      const got = found.map((member) => [member.name, member.value]);
      expect(Object.fromEntries(got)).toEqual(Object.fromEntries(wanted));
    }),
    { numRuns: 5000 },
  );
});

test("stops and goes on at every byte of a text", () => {
  const text =
    ' {"\\u006b" : "\\ud83d\\ude00é\\\\\\"" ,"x":[[],{},-0,0.5e-3,1E5,12.50,true,false,null,{"a":{"b":[1,2]}}],\n"l": [ 1 ,2 , 3 ] } \n';
  const whole = scanned(text, ["k", "l"]);
  expect(whole).toHaveLength(2);
  for (let at = 1; at <= text.length; at += 1) {
    for (const offset of [0, 1]) {
      expect(scanned(text, ["k", "l"], { budget: at, offset })).toEqual(whole);
    }
  }
  for (let end = 0; end < text.length - 2; end += 1) {
    for (const budget of [1, 5, Infinity]) {
      expect([end, scanned(text.slice(0, end), [], { budget })]).toEqual([end, undefined]);
    }
  }
});

/** The most bytes that one turn of a scan goes over. */
function longestTurn(bytes: Uint8Array, budget: number, names = new Names(["model"])): number {
  const scan = new ObjectScan(bytes, names, "backend");
  let longest = 0;
  for (let at = 0, isDone = false; !isDone; at = scan.at) {
    isDone = scan.run(budget);
    longest = Math.max(longest, scan.at - at);
  }
  return longest;
}

test.each([
  ["a long text", `{"a":"${"x".repeat(200_000)}"}`],
  ["escapes", `{"a":"${"\\n".repeat(100_000)}"}`],
  ["\\u escapes", `{"a":"${"\\u00e9".repeat(40_000)}"}`],
  ["white space", `{${" ".repeat(200_000)}}${"\n".repeat(200_000)}`],
  ["a long number", `{"a":${"1".repeat(100_000)}.${"1".repeat(100_000)}e${"1".repeat(100_000)}}`],
  ["tokens", `{"a":[${"123,".repeat(50_000)}1]}`],
  ["empty lists", `{"a":[${"[],".repeat(50_000)}{}]}`],
  ["names", `{${Array.from({ length: 20_000 }, (_, i) => `"k${i}":1`).join(",")}}`],
  ["a long name", `{"${"x".repeat(200_000)}":1}`],
  ["one name again and again", `{${'"backend":"x","model":"m",'.repeat(8000)}"a":1}`],
])("no turn goes over much more of %s than it was told to", (_, text) => {
  const bytes = encode(text);
  expect(longestTurn(bytes, 1000)).toBeLessThanOrEqual(1016);
});

test("of a name that comes a hundred thousand times the last is known", () => {
  const many = '"backend":1,"model":"a",'.repeat(100_000);
  const bytes = encode(`{${many}"model":"m","backend":"vllm"}`);
  const names = new Names(["model", "backend"]);
  const scan = new ObjectScan(bytes, names, "backend");
  scan.run();
  const backend = scan.get("backend");
  if (backend) scan.blank(backend);
  expect(stringAt(bytes, scan.get("model") ?? { start: 0, end: 0 })).toBe("m");
  const text = new TextDecoder().decode(bytes);
  expect(text).not.toContain("backend");
  expect(JSON.parse(text)).toEqual({ model: "m" });
});

test("a long value that counts no longer, of a name that may stand once only, is refused", () => {
  const bytes = encode(`{"backend":"${"x".repeat(100_000)}","backend":"vllm"}`);
  const scan = new ObjectScan(bytes, new Names(["backend"]), "backend");
  expect(() => scan.run()).toThrow('a second "backend" at byte 100014');
});

test("a byte order mark is a part of the name or text that it stands in", () => {
  const bytes = Buffer.from('{"model":"a","\ufeffmodel":"b","name":"\ufeffc"}');
  const object = scanObject(bytes, new Names(["model", "name"]));
  const texts = ["model", "name"].map((name) => {
    const member = object.get(name);
    return member && stringAt(bytes, member);
  });
  expect(texts).toEqual(["a", "\ufeffc"]);
});
