import { expect, test } from "bun:test";
import fc from "fast-check";
import { shellWord } from "../../../src/cli/base/shell-word.ts";
import type { CommandSpec } from "../../../src/cli/base/spec.ts";
import { readLine } from "../../../src/cli/parse/line.ts";

const GO: CommandSpec = {
  name: "go",
  aliases: ["walk"],
  usage: "go",
  summary: "",
  argument: { name: "where", required: false, repeats: true },
  takesRest: true,
  options: [
    { flag: "name", value: "<name>", summary: "" },
    { flag: "label", value: "<k=v>", repeat: true, summary: "" },
    { flag: "json", summary: "" },
    { flag: "no-done", summary: "" },
    { flag: "log-file", value: "<file>", summary: "" },
    { flag: "message", short: "m", value: "<text>", summary: "" },
  ],
  examples: [],
  run: async () => 0,
};
const STAY: CommandSpec = {
  ...GO,
  name: "stay",
  aliases: [],
  options: [{ flag: "minutes", short: "m", value: "<n>", summary: "" }],
};
delete STAY.argument;

const read = (...argv: string[]) => readLine(argv, [GO, STAY]);
const flags = (...argv: string[]) => Object.fromEntries(read("go", ...argv).flags);

test("values stay what was typed", () => {
  const values = ["007", "1e3", "0x10", "true", "a.b", "=", "a=1e3"];
  for (const value of values) {
    expect(flags("--name", value, `--label=${value}`)).toEqual({ name: [value], label: [value] });
  }
  expect(read("go", ...values, "", "-").words).toEqual([...values, "", "-"]);
  expect(flags("--label", "a=1e3", "--label=b=0x10")).toEqual({ label: ["a=1e3", "b=0x10"] });
});

test("a short option takes the next word where it has a value, and only as the last of its word", () => {
  expect(flags("-m", "new driver", "-hm", "x")).toEqual({
    help: ["true"],
    message: ["new driver", "x"],
  });
  for (const argv of [["-m"], ["-m", ""], ["-m", "--json"], ["-mh", "x"]]) {
    expect(read("go", ...argv).malformed?.spec.flag).toBe("message");
  }
});

test("a letter means what the command means by it", () => {
  expect(Object.fromEntries(read("stay", "-m", "5").flags)).toEqual({ minutes: ["5"] });
  expect(Object.fromEntries(read("-m", "5", "walk").flags)).toEqual({ message: ["5"] });
});

test("a switch takes no word", () => {
  const line = read("go", "--json", "true", "--no-done", "5");
  expect(line.words).toEqual(["true", "5"]);
  expect(Object.fromEntries(line.flags)).toEqual({ json: ["true"], "no-done": ["true"] });
  expect(flags("--json=false", "--no-done=false")).toEqual({
    json: ["false"],
    "no-done": ["false"],
  });
  expect(read("go", "--json=x").malformed?.value).toBe("x");
});

test("what follows the first -- is untouched", () => {
  const line = read("go", "--", "a", "--name", "--", "-x");
  expect([line.words, line.flags.size]).toEqual([[], 0]);
  expect(line.rest).toEqual(["a", "--name", "--", "-x"]);
  expect(read("go").rest).toBeNull();
  expect(read("go", "--").rest).toEqual([]);
});

test("a value that starts with a dash needs the = form", () => {
  const line = read("go", "--name", "--json");
  expect([line.malformed?.spec.flag, line.malformed?.value]).toEqual(["name", null]);
  expect(Object.fromEntries(line.flags)).toEqual({ json: ["true"] });
  expect(flags("--name=--json")).toEqual({ name: ["--json"] });
});

test.each([[["--name"]], [["--name="]], [["--name=", "x"]]])("%p lacks a value", (argv) => {
  const { malformed, words } = read("go", ...argv);
  expect([malformed?.spec.flag, malformed?.value]).toEqual(["name", null]);
  expect(words).toEqual(argv.slice(1));
});

test.each([
  ["--nmae=x", "--nmae"],
  ["-v", "-v"],
  ["-hx", "-x"],
  ["--no-json", "--no-json"],
  ["--done", "--done"],
  ["--logFile=x", "--logFile"],
  ["--minutes=1", "--minutes"],
  ["--json.a=1", "--json.a"],
  ["--__proto__", "--__proto__"],
  ["--__proto__.polluted=1", "--__proto__.polluted"],
  ["---json", "---json"],
])("%p is not known, and told as %p", (typed, told) => {
  const line = read("go", "a", typed, "b");
  expect(line.unknown).toBe(told);
  expect("polluted" in {}).toBe(false);
});

test("the command is the first word, or none is", () => {
  expect(read("walk", "go").command?.name).toBe("go");
  expect(read("--head", "go", "stay").command?.name).toBe("stay");
  for (const argv of [["007", "go"], ["", "go"], ["-", "go"], ["a b"], []]) {
    const { name, command } = read(...argv);
    expect([name, command]).toEqual([argv[0] ?? null, null]);
  }
  expect([read("stay", "x").hasExtraWords, read("go", "x").hasExtraWords]).toEqual([true, false]);
});

test("a word of very many letters is read at once", () => {
  const started = performance.now();
  expect(
    read("go", `-${"h".repeat(130_000)}`)
      .flags.get("help")
      ?.at(-1),
  ).toBe("true");
  expect(read("go", `-${"x".repeat(130_000)}`).unknown).toBe("-x");
  expect(performance.now() - started).toBeLessThan(1000);
});

test("every word ends in exactly one place", () => {
  const word = fc.oneof(
    fc.constantFrom("--name", "--name=x", "--json", "--", "-h", "-", "--bogus", "word", ""),
    fc.string({ maxLength: 8 }),
  );
  fc.assert(
    fc.property(fc.array(word, { maxLength: 12 }), (typed) => {
      const argv = ["go", ...typed];
      const line = readLine(argv, [GO, STAY]);
      const end = argv.indexOf("--");
      expect(line.command?.name).toBe("go");
      expect(line.rest).toEqual(end === -1 ? null : argv.slice(end + 1));
      expect(line.words).toEqual(line.wordsAt.map((at) => argv[at] ?? "?"));
      for (const at of line.wordsAt) expect(end === -1 || at < end).toBe(true);
    }),
  );
});

test("words are quoted as a shell needs them", async () => {
  const words = ["plain", "a b", "it's", "$HOME", "", "--port=8080", "a;b"];
  const command = `printf '%s\\n' ${words.map(shellWord).join(" ")}`;
  const shown = await new Response(Bun.spawn(["sh", "-c", command]).stdout).text();
  expect(shown).toBe(`${words.join("\n")}\n`);
});
