import { expect, test } from "bun:test";
import { commandTable } from "../../../src/cli/commands.ts";
import { parseCommandLine } from "../../../src/cli/parse/parse.ts";
import { globalOptionsOf } from "../../../src/cli/base/spec.ts";
import { LlmnodeError } from "../../../src/protocol/errors.ts";

function parse(...argv: string[]) {
  return parseCommandLine(argv, commandTable(), {});
}

function failure(...argv: string[]): string {
  try {
    parse(...argv);
  } catch (error) {
    if (error instanceof LlmnodeError && error.code === "usage") return error.message;
    throw error;
  }
  throw new Error("it was understood");
}

test("a command with its words, options and engine command", () => {
  const found = parse("join", "10.0.0.5", "--name", "007", "--", "vllm", "--port", "8080");
  expect(found.command.name).toBe("join");
  expect(found.words).toEqual(["10.0.0.5"]);
  expect(found.rest).toEqual(["vllm", "--port", "8080"]);
  expect(found.options.text("name")).toBe("007");
});

test("global options may stand before and after the command", () => {
  for (const argv of [
    ["--head", "h:1", "status", "--json"],
    ["status", "--json", "--head", "h:1"],
    ["--json", "status", "--head=h:1"],
  ]) {
    const found = parse(...argv);
    expect([found.command.name, found.options.text("head"), found.options.isOn("json")]).toEqual([
      "status",
      "h:1",
      true,
    ]);
  }
});

test("words that look like numbers stay words, also after a switch", () => {
  expect(parse("join", "--insecure", "007", "--", "x").words).toEqual(["007"]);
});

test("help and version are commands and flags", () => {
  expect(parse().command.name).toBe("help");
  expect(parse("--help").words).toEqual([]);
  expect([parse("-h", "join").command.name, parse("-h", "join").words]).toEqual(["help", ["join"]]);
  expect(parse("join", "h", "--help").words).toEqual(["join"]);
  expect(parse("--version").command.name).toBe("version");
  expect(parse("join", "h", "--", "vllm", "--help").command.name).toBe("join");
});

test.each([
  [["stauts"], 'unknown command "stauts": did you mean "status"?'],
  [
    ["deploy"],
    `unknown command "deploy"; there are: ${commandTable()
      .filter(({ isHidden }) => isHidden !== true)
      .map(({ name }) => name)
      .join(", ")}`,
  ],
  [["status", "--jsno"], "unknown option --jsno for status: did you mean --json?"],
  [["--verson"], "unknown option --verson: did you mean --version?"],
  [["status", "--zzzzz"], "unknown option --zzzzz for status; see: llmnode help status"],
  [["status", "-v"], "unknown option -v for status; see: llmnode help status"],
  [["status", "--x", "--x.y"], "unknown option --x for status; see: llmnode help status"],
  [["status", "--json", "--json.y=1"], "unknown option --json.y for status: did you mean --json?"],
  [["status", "--no-json"], "unknown option --no-json for status; see: llmnode help status"],
  [["status", "extra"], 'status: unexpected argument "extra"'],
  [["status", "--json", "true"], 'status: unexpected argument "true"'],
  [["status", "--json=x"], '--json takes no value, not "x"'],
  [["status", "--", "x"], 'status takes nothing after "--"'],
  [["join", "h", "--name"], "--name needs a value: --name <name>"],
  [["join", "h", "--name", "--insecure"], "--name needs a value: --name <name>"],
  [["join", "h", "--name=", "x"], 'put the engine command after "--": llmnode join h -- x'],
  [["join", "--", "x"], "join needs <head>: llmnode join <head> [options] -- <engine command...>"],
] as Array<[string[], string]>)("%p: %p", (argv, message) => {
  expect(failure(...argv)).toBe(message);
});

test("an engine command without -- is shown back the right way, in the user's words", () => {
  expect(failure("join", "h", "vllm", "serve", "a b", "--port", "8080", "-tp", "8")).toBe(
    `put the engine command after "--": llmnode join h -- vllm serve 'a b' --port 8080 -tp 8`,
  );
  expect(failure("--debug", "join", "h", "--name", "n", "ollama", "serve")).toBe(
    'put the engine command after "--": llmnode join h -- ollama serve',
  );
  expect(failure("join", "h", "extra", "--", "vllm")).toBe(
    'join: unexpected argument "extra" before "--"',
  );
});

test("a mistyped word cannot write to the terminal", () => {
  expect(failure("\u001b]0;x\u0007evil\n")).toStartWith('unknown command "evil"');
  expect(failure(`--${"x".repeat(5000)}`).length).toBeLessThan(200);
});

test("the table is consistent", () => {
  for (const command of commandTable()) {
    const all = [...command.options, ...globalOptionsOf(command)];
    const flags = all.map(({ flag }) => flag);
    expect(new Set(flags).size).toBe(flags.length);
    const variables = all.flatMap(({ env }) => env ?? []);
    expect(new Set(variables).size).toBe(variables.length);
    expect(command.usage.startsWith(command.name)).toBe(true);
    // Examples must be command lines that are understood.
    for (const example of command.examples) {
      const line = example.replace(/ &&.*| +#.*/, "");
      const words = line.split(" ");
      expect([words[0], parse(...words.slice(1)).command.name]).toEqual(["llmnode", command.name]);
    }
  }
});
