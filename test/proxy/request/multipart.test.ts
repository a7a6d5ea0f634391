import { expect, test } from "bun:test";
import fc from "fast-check";
import { boundaryOf, createFormScanner } from "../../../src/proxy/request/multipart.ts";

const part = (disposition: string, value: string, more = "") =>
  `--b\r\nContent-Disposition: form-data; ${disposition}\r\n${more}\r\n${value}\r\n`;
const MODEL = part('name="model"', "whisper-1");
const FILE = part(
  'name="file"; filename="a.wav"',
  "RIFF\r\n--a\r\n--",
  "Content-Type: audio/wav\r\n",
);
const END = "--b--\r\n";

const scan = (text: string) => createFormScanner("b").scan(Buffer.from(text));
const found = { state: "found", model: "whisper-1" } as const;

test.each([
  ["multipart/form-data; boundary=abc", "abc"],
  ['multipart/form-data; boundary="a b;c"', "a b;c"],
  ["Multipart/Form-Data; charset=utf-8; Boundary=x", "x"],
  ["multipart/form-data", null],
  ["multipart/mixed; boundary=x", null],
  [`multipart/form-data; boundary=${"x".repeat(71)}`, "x".repeat(70)],
  ["application/json", null],
])("the boundary of %j", (type, boundary) => {
  // RFC 2046 allows 70 characters; a longer one begins with its first 70.
  expect(boundaryOf(type)).toBe(boundary);
});

test.each([
  ["first", MODEL + FILE + END],
  ["last", FILE + MODEL + END],
  ["behind a preamble", `preamble\r\n${MODEL}${END}`],
  ["without quotes", part("name=model", "whisper-1") + END],
  ["with a header before", part('name="model"', "whisper-1", "Content-Type: text/plain\r\n") + END],
  ["in other letters", MODEL.replace("Content-Disposition", "content-disposition") + END],
  ["twice, of which the first counts", MODEL + part('name="model"', "other") + END],
  ["behind an empty part", part('name="x"', "") + MODEL + END],
])("the model %s is found", (_, form) => {
  expect(scan(form)).toEqual(found);
});

test.each([
  ["a file called model", part('name="model"; filename="model"', "x") + FILE + END],
  ["a name that only begins so", part('name="model_name"', "x") + END],
  [
    "a value that looks like a part",
    part('name="x"', 'Content-Disposition: form-data; name="model"') + END,
  ],
  ["no part at all", END],
])("%s is not the model", (_, form) => {
  expect(scan(form)).toEqual({ state: "absent" });
});

test("an empty model is empty, an unfinished form is not judged", () => {
  expect(scan(part('name="model"', "") + END)).toEqual({ state: "found", model: "" });
  expect(scan(MODEL.slice(0, -4))).toEqual({ state: "more" });
  expect(scan("")).toEqual({ state: "more" });
});

test("a form of very many parts, a header without an end and a long preamble name no model", () => {
  const many = part('name="x"', "y");
  expect(scan(many.repeat(999) + MODEL + END)).toEqual(found);
  expect(scan(many.repeat(1000) + MODEL + END)).toEqual({ state: "absent" });
  expect(scan(`--b\r\n${"x".repeat(17_000)}`)).toEqual({ state: "absent" });
  const scanner = createFormScanner("b");
  const text = Buffer.from(`${"\r\n--a".repeat(10_000)}\r\n${MODEL}${END}`);
  for (let end = 0; end < 50_000; end += 999) {
    expect(scanner.scan(text.subarray(0, end))).toEqual({ state: "more" });
  }
  expect(scanner.scan(text)).toEqual(found);
});

test("in whatever pieces a form comes, with whatever bytes in its file, the model is found", () => {
  const property = fc.property(
    fc.uint8Array({ maxLength: 200 }),
    fc.array(fc.nat(), { maxLength: 20 }),
    fc.boolean(),
    (file, cuts, first) => {
      const [before, after] = part('name="file"; filename="a"', "|").split("|");
      const binary = Buffer.concat([Buffer.from(before ?? ""), file, Buffer.from(after ?? "")]);
      fc.pre(!binary.subarray(before?.length, -2).includes("\r\n--b"));
      const model = Buffer.from(MODEL);
      const form = Buffer.concat([
        ...(first ? [model, binary] : [binary, model]),
        Buffer.from(END),
      ]);
      const scanner = createFormScanner("b");
      const ends = [...cuts.map((cut) => cut % form.length).sort((a, b) => a - b), form.length];
      let last: ReturnType<typeof scan> = { state: "more" };
      for (const end of ends) {
        last = scanner.scan(form.subarray(0, end));
        if (last.state !== "more") break;
      }
      expect(last).toEqual(found);
    },
  );
  fc.assert(property, { numRuns: 1000 });
});
