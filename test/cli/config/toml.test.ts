import { afterAll, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import path from "node:path";
import fc from "fast-check";
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

function placesIn(text: string): (...keys: string[]) => string {
  writeFileSync(FILE, text);
  const file = readTomlFile(FILE);
  return (...keys) => file.at(keys).slice(FILE.length + 1);
}

test.each([
  ["a = 1\nb = = 2\n", "a.toml:2:5: Unexpected token"],
  ['a = "x\nb = 1\n', "a.toml:1:7: Unterminated string"],
  ["a = 1\n\n  a = 2\n", "a.toml:3:3: Defining a key multiple times"],
  ["[x]\ny = 1\n[x]\n", "a.toml:3:2: Defining a key multiple times"],
  ["a = 1\n\n  name\nz = 1", "a.toml:4:1: The key, equals sign, and value must be on the same"],
  ["a = 1\n  name =\n\n", "a.toml:2:9: Unspecified values are invalid"],
  ['[a]\n"__proto__" = 1\n', 'a.toml:2:1: unknown key "__proto__"'],
  ["a = [1,\n2,\n  =]\n", "a.toml:3:3: Unexpected token"],
  ['a = """\nb\n"""\nc = tru\n', "a.toml:4:5: Unexpected"],
  ["a = 1\r\nb = 0x\r\n", "a.toml:2:"],
  ['a = "ü" x', "a.toml:1:9: Must be a newline"],
  ['a = "\\q"', "a.toml:1:7: Invalid character in escape sequence"],
  ['head = "prod"\n[head]\n', "a.toml:2:2: Defining a key multiple times"],
])("%p is told with its line and column", (text, message) => {
  expect(failure(text)).toStartWith(message);
});

test("a large file is looked through at once", () => {
  const lines = Array.from({ length: 3000 }, (_, i) => `key-${i} = "${i}"`).join("\n");
  expect(failure(`${lines}\nwrong\n`)).toStartWith("a.toml:3001:6: Expected equal (=) token");
  expect(failure("a".repeat(70_000))).toBe("a.toml is larger than 65536 bytes");
  const deep = Array.from({ length: 5000 }, () => "a").join(".");
  expect(placesIn(`${deep} = 1`)("a")).toBe("1:1");
  const nested = `a = ${"[".repeat(5000)}${"]".repeat(5000)}`;
  expect(failure(nested)).toMatch(/^(none|a\.toml is nested too deeply)$/);
});

test("dates and times are taken as they were written", () => {
  writeFileSync(FILE, "a = 18:30:00\nb = [1979-05-27T07:32:00Z]\nc = 1979-05-27\n");
  const { a, b, c } = readTomlFile(FILE).content;
  expect([String(a), String(b), String(c)]).toEqual([
    ...["18:30:00", "1979-05-27T07:32:00Z", "1979-05-27"],
  ]);
});

test("every key is found, whatever stands around it", () => {
  const at = placesIn(
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
  expect([at("schema"), at("q r", "s"), at("q r"), at("heads")]).toEqual([
    ...["1:1", "2:1", "2:1", "3:1"],
  ]);
  expect([at("heads", "prod", "url"), at("heads", "prod", "ca")]).toEqual(["4:1", "7:3"]);
  expect(at("heads", "my A", "url")).toBe("11:1");
  // What has no place of its own is where the table around it is.
  expect([at("t", "b", "c"), at("t", "e"), at("none")]).toEqual(["13:7", "15:1", "1:1"]);
});

test("any text is taken, or refused with a place within it", () => {
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
      const told = failure(text);
      expect(told).toMatch(/^(none|a\.toml:\d+:\d+: |a\.toml is no UTF-8)/);
      const [, line = 1, column = 1] = /:(\d+):(\d+)/.exec(told)?.map(Number) ?? [];
      const lines = text.split("\n");
      expect(line).toBeLessThanOrEqual(lines.length);
      expect(column).toBeLessThanOrEqual((lines[line - 1]?.length ?? 0) + 1);
    }),
    { numRuns: 300 },
  );
});
