import { expect, test } from "bun:test";
import fc from "fast-check";
import { scanArgv, shellWord } from "../../../src/cli/base/argv.ts";
import type { OptionSpec } from "../../../src/cli/base/options.ts";

const SPECS: OptionSpec[] = [
  { flag: "name", value: "<name>", summary: "" },
  { flag: "label", value: "<k=v>", repeat: true, summary: "" },
  { flag: "json", summary: "" },
  { flag: "no-done", summary: "" },
  { flag: "help", short: "h", summary: "" },
  { flag: "message", short: "m", value: "<text>", summary: "" },
];

function flags(argv: string[]): Record<string, string[]> {
  return Object.fromEntries(scanArgv(argv, SPECS).flags);
}

test("values stay what was typed", () => {
  expect(flags(["--name", "007", "--label", "a=1e3", "--label=b=0x10"])).toEqual({
    name: ["007"],
    label: ["a=1e3", "b=0x10"],
  });
});

test("a short option takes the next word where it has a value, and only as the last of its word", () => {
  expect(flags(["-m", "new driver", "-hm", "x"])).toEqual({
    help: ["true"],
    message: ["new driver", "x"],
  });
  for (const argv of [["-m"], ["-m", ""], ["-m", "--json"], ["-mh", "x"]]) {
    const { malformed } = scanArgv(argv, SPECS);
    expect(malformed.map(({ spec }) => spec.flag)).toEqual(["message"]);
  }
});

test("a switch takes no word", () => {
  const scan = scanArgv(["--json", "true", "--no-done", "5"], SPECS);
  expect(scan.words).toEqual(["true", "5"]);
  expect(Object.fromEntries(scan.flags)).toEqual({ json: ["true"], "no-done": ["true"] });
  expect(flags(["--json=false"])).toEqual({ json: ["false"] });
});

test("what follows the first -- is untouched", () => {
  const scan = scanArgv(["join", "--", "a", "--name", "--", "-x"], SPECS);
  expect(scan.words).toEqual(["join"]);
  expect(scan.flags.size).toBe(0);
  expect(scan.rest).toEqual(["a", "--name", "--", "-x"]);
  expect(scanArgv(["join"], SPECS).rest).toBeNull();
  expect(scanArgv(["join", "--"], SPECS).rest).toEqual([]);
});

test("a value that starts with a dash needs the = form", () => {
  const scan = scanArgv(["--name", "--json"], SPECS);
  expect(scan.malformed.map(({ spec, value }) => [spec.flag, value])).toEqual([["name", null]]);
  expect(Object.fromEntries(scan.flags)).toEqual({ json: ["true"] });
  expect(flags(["--name=--json"])).toEqual({ name: ["--json"] });
});

test.each([[["--name"]], [["--name="]], [["--name=", "x"]]])("%p lacks a value", (argv) => {
  expect(scanArgv(argv, SPECS).malformed.map(({ value }) => value)).toEqual([null]);
});

test("unknown flags are told as typed, without their values", () => {
  expect(scanArgv(["--nmae=x", "-v", "-hx", "--no-json"], SPECS).unknown).toEqual([
    "--nmae",
    "-v",
    "-hx",
    "--no-json",
  ]);
});

test("every word ends in exactly one place", () => {
  const word = fc.oneof(
    fc.constantFrom("--name", "--name=x", "--json", "--", "-h", "-", "--bogus", "word", ""),
    fc.string({ maxLength: 8 }),
  );
  fc.assert(
    fc.property(fc.array(word, { maxLength: 12 }), (argv) => {
      const scan = scanArgv(argv, SPECS);
      const end = argv.indexOf("--");
      expect(scan.rest).toEqual(end === -1 ? null : argv.slice(end + 1));
      expect(scan.words).toEqual(scan.wordsAt.map((at) => argv[at] ?? "?"));
      for (const at of scan.wordsAt) expect(end === -1 || at < end).toBe(true);
    }),
  );
});

test("words are quoted as a shell needs them", async () => {
  const words = ["plain", "a b", "it's", "$HOME", "", "--port=8080", "a;b"];
  const command = `printf '%s\\n' ${words.map(shellWord).join(" ")}`;
  const shown = await new Response(Bun.spawn(["sh", "-c", command]).stdout).text();
  expect(shown).toBe(`${words.join("\n")}\n`);
});
