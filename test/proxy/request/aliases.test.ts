import { afterEach, expect, test } from "bun:test";
import fc from "fast-check";
import { type ModelTarget, targetAt, targetEdits } from "../../../src/proxy/request/aliases.ts";
import { splice } from "../../../src/proxy/request/edits.ts";
import { Names } from "../../../src/proxy/json/names.ts";
import { scanObject } from "../../../src/proxy/json/scan.ts";
import { directUpstream } from "../../helpers/upstream.ts";
import { carryOut } from "../../../src/util/flow/slices.ts";
import { chatAnswer, startEngine, type TestEngine } from "../../helpers/engine.ts";
import { type Front, startFront } from "../front.ts";

const encode = (text: string) => new TextEncoder().encode(text);

/** A preset by its keys, as `a.b` to JSON. */
function presetOf(keys: Record<string, string>): ModelTarget["preset"] {
  return Object.entries(keys).map(([key, json]) => ({ path: key.split("."), json }));
}

function edited(body: string, keys: Record<string, string>, model = "M"): string {
  const bytes = encode(body);
  const member = scanObject(bytes, new Names(["model"])).get("model");
  if (!member) throw new Error("the body has no model");
  const edits = carryOut(targetEdits(bytes, member, { model, preset: presetOf(keys) }));
  return new TextDecoder().decode(carryOut(splice(bytes, edits)));
}

test.each([
  ['{"model":"a"}', {}, '{"model":"M"}'],
  ['{"model":"a","model" : "a" }', {}, '{"model":"a","model" : "M" }'],
  [' { "x":1e400, "model":"\\u0061"}', {}, ' { "x":1e400, "model":"M"}'],
  ['{"model":"a"}', { t: "0.10" }, '{"t":0.10,"model":"M"}'],
  ['{"model":"a"}', { t: "1", u: '"x"' }, '{"t":1,"u":"x","model":"M"}'],
  ['{"t":7,"model":"a"}', { t: "1" }, '{"t":7,"model":"M"}'],
  ['{"t":null,"model":"a"}', { t: "1" }, '{"t":1,"model":"M"}'],
  ['{"t":null,"t":7,"model":"a"}', { t: "1" }, '{"t":null,"t":7,"model":"M"}'],
  ['{"model":"a"}', { "k.e": "true" }, '{"k":{"e":true},"model":"M"}'],
  ['{"model":"a"}', { "k.e": "1", "k.f": "2" }, '{"k":{"e":1,"f":2},"model":"M"}'],
  ['{"model":"a","k":{}}', { "k.e": "1", "k.f": "2" }, '{"model":"M","k":{"e":1,"f":2}}'],
  ['{"model":"a","k": { }}', { "k.e": "1" }, '{"model":"M","k": {"e":1 }}'],
  ['{"model":"a","k":{"x":0}}', { "k.e": "1" }, '{"model":"M","k":{"e":1,"x":0}}'],
  ['{"model":"a","k":{"e":0}}', { "k.e": "1" }, '{"model":"M","k":{"e":0}}'],
  ['{"model":"a","k":{"e":null}}', { "k.e": "1" }, '{"model":"M","k":{"e":1}}'],
  ['{"model":"a","k":null}', { "k.e": "1" }, '{"model":"M","k":{"e":1}}'],
  ['{"model":"a","k":[1]}', { "k.e": "1" }, '{"model":"M","k":[1]}'],
  ['{"k":{"l":{"x":1}},"model":"a"}', { "k.l.e": "1" }, '{"k":{"l":{"e":1,"x":1}},"model":"M"}'],
  ['{"model":"a","k":{"e":1}}', { k: '{"f":2}' }, '{"model":"M","k":{"e":1}}'],
  ['{"messages":[{"t":1,"model":"a"}],"model":"a"}', { t: "2" }, null],
  ['{"model":"a"}', { __proto__x: "1" }, '{"__proto__x":1,"model":"M"}'],
])("%s with %j", (body, keys: Record<string, string>, expected) => {
  const wanted = expected ?? '{"t":2,"messages":[{"t":1,"model":"a"}],"model":"M"}';
  expect(edited(body, keys)).toBe(wanted);
});

test("a model's name is written as JSON, a preset key too", () => {
  const body = edited('{"model":"a"}', { 'é"\\': "1" }, 'q"\\\u2028é');
  expect(JSON.parse(body)).toEqual({ model: 'q"\\\u2028é', 'é"\\': 1 });
});

/** Numbers as clients write them, which a parser would change. */
const number = fc.constantFrom("9007199254740993", "1.0", "1e400", "-0", "0.10", "1E5");
const value = fc.oneof(fc.json(), number, fc.constant("null"), fc.constant("{}"));
const key = fc.oneof(fc.constantFrom("a", "b", "c"), fc.string());
const space = fc.constantFrom("", " ", "\n\t");
const members = fc.array(fc.tuple(key, value, space), { maxLength: 5 });
const presetKey = fc.tuple(
  fc.constantFrom("a", "b", "c", "d"),
  fc.option(fc.constantFrom("x", "y"), { nil: null }),
  fc.constantFrom("1", '"é"', '{"z":0}', "false"),
);

test("outside the edits every byte stays, and the client's own values win", () => {
  fc.assert(
    fc.property(members, members, fc.array(presetKey, { maxLength: 4 }), (before, after, wish) => {
      const write = ([name, json, gap]: [string, string, string]) =>
        `${gap}${JSON.stringify(name)}${gap}:${gap}${json}`;
      const others = [...before, ...after].filter(([name]) => name !== "model");
      const own = before.filter(([name]) => name !== "model").map(write);
      const rest = after.filter(([name]) => name !== "model").map(write);
      const body = `{${[...own, '"model":"a"', ...rest].join(",")}}`;
      // A key that is set whole cannot be set in part as well.
      const whole = new Set(wish.filter(([, inner]) => inner === null).map(([top]) => top));
      const preset: Record<string, string> = {};
      for (const [top, inner, json] of wish) {
        if (inner === null) preset[top] = json;
        else if (!whole.has(top)) preset[`${top}.${inner}`] = json;
      }
      const result = edited(body, preset);
      const sent = JSON.parse(body) as Record<string, unknown>;
      const got = JSON.parse(result) as Record<string, unknown>;
      const expected: Record<string, unknown> = Object.assign(Object.create(null), sent);
      expected["model"] = "M";
      for (const [path, json] of Object.entries(preset)) {
        const [top = "", inner] = path.split(".");
        const fresh: unknown = JSON.parse(json);
        const now = expected[top];
        if (inner === undefined) expected[top] = now ?? fresh;
        else if (now === undefined || now === null) expected[top] = { [inner]: fresh };
        else if (typeof now === "object" && !Array.isArray(now)) {
          const at: Record<string, unknown> = { ...now };
          expected[top] = { ...at, [inner]: at[inner] ?? fresh };
        }
      }
      expect({ ...got }).toEqual({ ...expected });
      // The members that the preset does not name stand there as they were written.
      for (const [name, json, gap] of others) {
        if (!/^[abcd]$/.test(name)) expect(result).toContain(write([name, json, gap]));
      }
      // Without a preset only the name differs.
      expect(edited(body, {})).toBe(body.replace('"model":"a"', '"model":"M"'));
    }),
  );
});

test("a replica gets its own name, and the preset of the target that led to it", () => {
  const targets: ModelTarget[] = [
    { model: "A", preset: presetOf({ t: "1" }) },
    { model: "B", preset: presetOf({ t: "2" }) },
  ];
  expect(targetAt(null, "A")).toBeNull();
  expect(targetAt(targets, "B")).toEqual({ model: "B", preset: presetOf({ t: "2" }) });
  expect(targetAt(targets, "A:latest")).toEqual({
    model: "A:latest",
    preset: presetOf({ t: "1" }),
  });
  expect(targetAt(targets, "C")).toEqual({ model: "C", preset: [] });
});

let front: Front | null = null;
let engine: TestEngine | null = null;
afterEach(async () => {
  await front?.[Symbol.asyncDispose]();
  await engine?.[Symbol.asyncDispose]();
  front = engine = null;
});

/** An alias `fast` in front of one engine, whose leases are for `leased`. */
function start(targets: ModelTarget[], leased = targets[0]?.model ?? "") {
  engine = startEngine(() => chatAnswer("hi"));
  const upstream = directUpstream(`http://127.0.0.1:${engine.port}`);
  front = startFront({
    upstreams: [upstream],
    engines: [{ model: leased }],
    proxy: { aliases: (name) => (name === "fast" ? targets : null) },
  });
  return { wants: front.wants };
}

test("an alias asks for its models in their order, and is recorded by its name", async () => {
  const targets = ["A", "B", "C"].map((model) => ({ model, preset: presetOf({}) }));
  const { wants } = start(targets, "B");
  const body = '{ "messages": [], "n": 1.0, "model": "fast" }';
  const response = await front?.post("/v1/chat/completions", body);
  expect(response?.status).toBe(200);
  expect(wants.map(({ model, fallbacks }) => [model, fallbacks])).toEqual([["A", ["B", "C"]]]);
  expect(engine?.seen.map((one) => one.body)).toEqual([body.replace("fast", "B")]);
  const record = await front?.next();
  expect(record).toMatchObject({ model: "fast", alias: true, modelKnown: true });
  expect(record?.attempts.map(({ model }) => model)).toEqual(["B"]);
});

test("a model that is no alias passes as it is", async () => {
  const { wants } = start([{ model: "A", preset: presetOf({ t: "1" }) }], "other");
  const body = '{"model":"other"}';
  await front?.post("/v1/chat/completions", body);
  expect(wants.map(({ model, fallbacks }) => [model, fallbacks])).toEqual([["other", []]]);
  expect(engine?.seen.map((one) => one.body)).toEqual([body]);
  expect(await front?.next()).toMatchObject({ model: "other", alias: false });
});

test("usage is asked for and the preset set in the same body", async () => {
  start([{ model: "A", preset: presetOf({ "k.e": "true" }) }]);
  await front?.post("/v1/chat/completions", '{"model":"fast","stream":true}');
  expect(engine?.seen.at(0)?.body).toBe(
    '{"stream_options":{"include_usage":true},"k":{"e":true},"model":"A","stream":true}',
  );
});

test.each([
  ["/api/show", '{"name":"fast"}', '{"name":"A"}'],
  ["/api/chat", '{"model":"fast","stream":false}', '{"model":"A","stream":false}'],
  ["/tokenize", '{"prompt":"x","model":"fast"}', '{"prompt":"x","model":"A"}'],
])("%s leads on", async (path, body, expected) => {
  start([{ model: "A", preset: presetOf({}) }]);
  await front?.post(path, body);
  expect(engine?.seen.at(0)?.body).toBe(expected);
});

const part = (name: string, text: string, more = "") =>
  `--b\r\nContent-Disposition: form-data; name="${name}"${more}\r\n\r\n${text}\r\n`;

test.each([
  ["held", 100],
  ["passed on as it comes", 2_000_000],
])("a form that is %s gets its model, and nothing of a preset", async (_, size) => {
  start([{ model: "whisper/v3", preset: presetOf({ language: '"en"' }) }]);
  const file = part("file", "x".repeat(size), '; filename="fast"');
  const form = (model: string) => `${part("model", model)}${file}--b--\r\n`;
  const headers = { "content-type": "multipart/form-data; boundary=b" };
  const response = await front?.post("/v1/audio/transcriptions", form("fast"), { headers });
  expect(response?.status).toBe(200);
  expect(engine?.seen.at(0)?.body === form("whisper/v3")).toBe(true);
});
