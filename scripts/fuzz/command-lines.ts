/** Fuzzes what people write: command lines and configuration files. */

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { commandTable } from "../../src/cli/commands.ts";
import { readTomlFile } from "../../src/cli/config/toml.ts";
import { parseCommandLine } from "../../src/cli/parse/parse.ts";
import { LlmnodeError } from "../../src/protocol/errors.ts";
import { type Fuzzer, mayThrow, must, pure } from "./fuzzer.ts";
import { damaged, oddText, type Random } from "./random.ts";

const TABLE = commandTable();
const FLAGS = TABLE.flatMap(({ options }) => options.map(({ flag }) => `--${flag}`));
const PLAIN = [
  ...[
    "--",
    "-h",
    "-v",
    "--help",
    "--no-color",
    "--debug=false",
    "-",
    "--=",
    "--x",
    "-hv",
    "127.0.0.1:1",
  ],
  ...[
    "--__proto__",
    "--constructor=1",
    "--__proto__.polluted=1",
    "--a.b.c",
    "--no-adopt",
    "30s",
    "10MiB",
  ],
];

export const commandLines = pure(
  "command-lines",
  "any command line is a command, or is refused in one clean line",
  (random) => {
    const argv = [random.pick(TABLE).name, ...random.several(5, () => wordOf(random))];
    if (random.chance(0.2)) argv.sort();
    const env = {
      HOME: "/nonexistent",
      LLMNODE_HEAD: random.chance(0.1) ? oddText(random) : undefined,
    };
    parsed(argv, env, argv);
    must(!("polluted" in {}), "a flag changed every object", argv);
  },
);

function wordOf(random: Random): string {
  switch (random.below(5)) {
    case 0:
      return random.pick(PLAIN);
    case 1:
      return oddText(random);
    case 2:
      return `${random.pick(FLAGS)}=${oddText(random, 3)}`;
    case 3:
      return damaged(random, random.pick(FLAGS));
    default:
      return random.pick(FLAGS);
  }
}

/** Reads all values too: each is only looked at when it is asked for. */
function parsed(
  argv: readonly string[],
  env: Record<string, string | undefined>,
  input: unknown,
): void {
  mayThrow(
    () => parseCommandLine(argv, TABLE, env),
    (error) => {
      if (!(error instanceof LlmnodeError) || error.code !== "usage") return false;
      for (const text of [error.message, ...error.hints]) {
        must(
          !/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202e]/.test(text),
          "an unclean message",
          input,
        );
      }
      must(!error.message.includes("\n"), "a message of several lines", input);
      return true;
    },
  );
}

const SAMPLE = `# A head and its workers
schema = 1
timeout = "30s"

[head]
listen = "0.0.0.0:8092"
cors-origin = "*"
metrics_open = true
routing = "prefix"
max-body = '64MiB'

[join]
head = "h:8093"
command = ["vllm", "serve", """a
b""", 'c']
labels = { zone = "a", "with space" = 1 }
port = 8_000
name = "w\\u00e9"

[heads.lab]
url = "http://127.0.0.1:8092"
token-file = "~/token"
since = 1979-05-27T07:32:00Z
`;
const SYNTAX = [
  ...[
    "[head]",
    "[[head]]",
    "[a.b]",
    "=",
    '"',
    "'",
    '"""',
    "'''",
    "{",
    "}",
    "[",
    "]",
    ",",
    "#",
    "\n",
    "\r\n",
  ],
  ...[
    "a.b = 1\n",
    '"" = 1\n',
    "\\u0000",
    "\\x",
    "inf",
    "nan",
    "0x1F",
    "1e999",
    "12:00:00",
    "true",
    "adopt = false\n",
  ],
];

export const configs: Fuzzer = {
  name: "configs",
  about: "any configuration file is taken, or refused with its place",
  async open() {
    const dir = mkdtempSync(join(tmpdir(), "llmnode-fuzz-"));
    const file = join(dir, "llmnode.toml");
    return {
      once(random) {
        const text = random.chance(0.9) ? damaged(random, SAMPLE, SYNTAX) : oddText(random, 40);
        writeFileSync(file, text);
        const name = random.pick(["head", "join", "status", "sim"]);
        parsed([name, `--config=${file}`], { HOME: dir }, text);
        mayThrow(
          () => {
            const [, line = 0, column = 0] =
              readTomlFile(file)
                .at(["head", "listen"])
                .match(/:(\d+):(\d+)$/)
                ?.map(Number) ?? [];
            const lines = text.split("\n").length;
            must(line >= 1 && line <= lines && column >= 1, "a place outside", text);
          },
          (error) => error instanceof LlmnodeError && error.code === "usage",
        );
      },
      async [Symbol.asyncDispose]() {
        rmSync(dir, { recursive: true, force: true });
      },
    };
  },
};
