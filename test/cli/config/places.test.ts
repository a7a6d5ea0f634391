import { afterAll, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import path from "node:path";
import fc from "fast-check";
import { findPlaces } from "../../../src/cli/config/places.ts";
import { readTomlFile } from "../../../src/cli/config/toml.ts";
import { LlmnodeError } from "../../../src/protocol/errors.ts";
import { tempDir } from "../../helpers/temp.ts";

const dir = tempDir();
afterAll(() => dir[Symbol.dispose]());
const FILE = path.join(dir.path, "a.toml");

function failure(text: string): string {
  writeFileSync(FILE, text);
  try {
    readTomlFile(FILE);
  } catch (error) {
    if (error instanceof LlmnodeError && error.code === "usage") {
      return error.message.replace(FILE, "a.toml");
    }
    throw error;
  }
  return "none";
}

test.each([
  ["a = 1\nb = = 2\n", "a.toml:2:5: Expected a value but found '='"],
  ['a = "x\nb = 1\n', "a.toml:1:6: Unterminated string"],
  ["a = 1\n\n  a = 2\n", "a.toml:3:3: Cannot redefine key 'a'"],
  ["[x]\ny = 1\n[x]\n", "a.toml:3:1: Cannot redefine table 'x'"],
  ["a = 1\n\n  name\nz = 1", "a.toml:3:6: Expected '=' after a key"],
  ["a = [1,\n2,\n  =]\n", "a.toml:3:3: Expected a value but found '='"],
  ['a = """\nb\n"""\nc = tru\n', "a.toml:4:7: Strings must be quoted"],
  ["a = 1\r\nb = 0x\r\n", "a.toml:2:"],
  ['a = "ü" x', "a.toml:1:9: Expected a newline or end of file"],
  ['a = "\\q"', "a.toml:1:7: Invalid escape sequence"],
  ['head = "prod"\n[head]\n', "a.toml:2:1: Cannot redefine key 'head' as a table"],
])("%p is told with its line and column", (text, message) => {
  expect(failure(text)).toStartWith(message);
});

test("a large file is looked through at once", () => {
  const lines = Array.from({ length: 3000 }, (_, i) => `key-${i} = "${i}"`).join("\n");
  expect(failure(`${lines}\nwrong\n`)).toStartWith("a.toml:3001:5: Expected '='");
  expect(failure("a".repeat(70_000))).toBe("a.toml is larger than 65536 bytes");
  const many = Array.from({ length: 40_000 }, (_, i) => `key-${i} = "${i}"`).join("\n");
  expect(findPlaces(many)(["key-39999"])).toEqual({ line: 40_000, column: 1 });
  const deep = Array.from({ length: 50_000 }, () => "a").join(".");
  expect(findPlaces(`${deep} = 1`)(["a"])).toEqual({ line: 1, column: 1 });
});

test("every key is found, whatever stands around it", () => {
  const places = findPlaces(
    [
      'schema = 1 # [x] "',
      '"q r".s = 1',
      "[heads.prod] # y",
      'url = """a',
      "[no]",
      'x = 1""""',
      '  ca = [ "]", # "',
      "1, '''",
      "''' ]",
      '[heads."my \\u0041"]',
      "url = 'x'",
      "[[t]]",
      'b = { c = 1, d = "}" }',
      "[[t]]",
      "e = 1",
    ].join("\n"),
  );
  const at = (...keys: string[]) => Object.values(places(keys)).join(":");
  expect([at("schema"), at("q r", "s"), at("q r"), at("heads")]).toEqual([
    ...["1:1", "2:1", "2:1", "3:1"],
  ]);
  expect([at("heads", "prod", "url"), at("heads", "prod", "ca")]).toEqual(["4:1", "7:3"]);
  expect(at("heads", "my A", "url")).toBe("11:1");
  // What has no place of its own is where the table around it is.
  expect([at("t", "b", "c"), at("t", "e"), at("none")]).toEqual(["13:1", "15:1", "1:1"]);
});

test("it ends for any text, and names a place within it", () => {
  const piece = fc.oneof(
    fc.constantFrom(
      "[",
      "]",
      '"',
      "'",
      '"""',
      "'''",
      "#",
      "\n",
      "=",
      ".",
      "{",
      "}",
      "\\",
      "a",
      " ",
    ),
    fc.string({ maxLength: 3 }),
  );
  const texts = fc.array(piece, { maxLength: 60 }).map((parts) => parts.join(""));
  fc.assert(
    fc.property(texts, (text) => {
      const { line, column } = findPlaces(text)(["a"]);
      const lines = text.split("\n");
      expect(line).toBeLessThanOrEqual(lines.length);
      expect(column).toBeLessThanOrEqual((lines[line - 1]?.length ?? 0) + 1);
      expect(failure(text)).toMatch(/^(none|a\.toml:\d+:\d+: |a\.toml is no UTF-8)/);
    }),
    { numRuns: 300 },
  );
});
