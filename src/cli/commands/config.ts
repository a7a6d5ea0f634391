/** `llmnode config`: which configuration files there are, what is wrong in them, what counts. */

import { usage } from "../base/messages.ts";
import { LlmnodeError } from "../../protocol/errors.ts";
import { cleanLine } from "../../util/text.ts";
import { actionNamed, refuseOptions } from "../parse/parse.ts";
import { readLine } from "../parse/line.ts";
import { checkConfig, commandOf } from "../parse/config-check.ts";
import type { Finding } from "../config/file.ts";
import { configSources, gatherConfig, isShared, openSource } from "../config/layers.ts";
import { commandRows, type ConfigRow, generalRows } from "../config/print.ts";
import { EXIT } from "../base/exit-codes.ts";
import { type CommandSpec, CONFIG_OPTION, GLOBAL_OPTIONS, type Invocation } from "../base/spec.ts";
import { table } from "../base/table.ts";
import type { Terminal } from "../base/terminal.ts";

interface Job {
  invocation: Invocation;
  terminal: Terminal;
  commands: readonly CommandSpec[];
  /** The file that a person named, if one did. */
  given: string | null;
  word: string | undefined;
  isJson: boolean;
}

const ACTIONS: Record<string, (job: Job) => number> = {
  path({ invocation: { env }, terminal, given, word, isJson }) {
    if (word !== undefined)
      throw usage(`config path: unexpected argument "${cleanLine(word, 80)}"`);
    const files = configSources({ given, env })
      .toReversed()
      .map((source) => ({ path: source.path, state: stateOf(source), for: PURPOSES[source.kind] }));
    if (isJson) print(terminal, JSON.stringify({ schema: "llmnode.config-files/1", files }));
    else {
      const rows = files.map((one) => [cleanLine(one.path, 400), one.state, one.for]);
      print(
        terminal,
        table(["FILE", "STATE", "FOR"], rows, { columns: terminal.columns }).join("\n"),
      );
    }
    return EXIT.ok;
  },

  check({ invocation: { env, options }, terminal, given, commands, word, isJson }) {
    const { files, findings } = checkConfig({ given: word ?? given, env }, commands);
    const strict = options.isOn("strict");
    const isBad = findings.some(({ isError }) => isError || strict);
    if (isJson) {
      const shown = findings.map(({ isError, text, hint }) => ({
        severity: isError || strict ? "error" : "warning",
        message: text,
        hint: hint ?? null,
      }));
      const answer = { schema: "llmnode.config-check/1", ok: !isBad, files, findings: shown };
      print(terminal, JSON.stringify(answer));
      return isBad ? EXIT.usage : EXIT.ok;
    }
    for (const { isError, text, hint } of findings) {
      terminal.err.write(`${isError || strict ? "error" : "warning"}: ${text}\n`);
      if (hint !== undefined) terminal.err.write(`  ${hint}\n`);
    }
    if (isBad) return EXIT.usage;
    for (const file of files) print(terminal, `${file}: ok`);
    if (files.length === 0)
      terminal.err.write("there is no configuration file: llmnode config path\n");
    return EXIT.ok;
  },

  print(job) {
    const { terminal, isJson } = job;
    const rows = rowsOf(job);
    if (isJson) {
      const values = rows.map(({ key, value, from, source }) => ({ key, value, from, source }));
      print(terminal, JSON.stringify({ schema: "llmnode.config/1", values }));
    } else {
      const cells = rows.map(({ key, value, source, note }) => {
        const shown = value ?? (note === null ? "-" : `(${note})`);
        return [key, cleanLine(source, 400), cleanLine(shown, 400)];
      });
      print(
        terminal,
        table(["KEY", "SOURCE", "VALUE"], cells, { columns: terminal.columns }).join("\n"),
      );
    }
    return EXIT.ok;
  },
};

const PURPOSES = {
  given: "the command that it is given to",
  here: "head and join in this folder",
  user: "this user",
  system: "this machine",
};

/** It knows the whole table, so it is made from the rest of it. */
export function configCommand(commands: readonly CommandSpec[]): CommandSpec {
  return {
    name: "config",
    usage: "config path|check [file]|print [head|join|top] [-- options of it] [--json]",
    summary: "show which configuration counts and where it is from, and what is wrong in it",
    details: [
      "Flags win over LLMNODE_* variables, which win over ./llmnode.toml (for head and join), which",
      "wins over ~/.config/llmnode/config.toml, then /etc/llmnode/config.toml, then the defaults. A",
      "file has tables [head], [join] and [top] with options by their names, and [heads.<name>] with",
      'url, ca and token_file, which --head <name> or a line head = "<name>" chooses.',
      "print shows each value and its source, secrets as ***; check ends with 2 where a file cannot",
      "be taken, with --strict also where a key is not known.",
    ],
    argument: { name: "action", required: true, words: Object.keys(ACTIONS) },
    secondArgument: { name: "file", required: false },
    takesRest: true,
    ignoresConfig: true,
    options: [
      { ...CONFIG_OPTION, summary: "look at this file instead of the usual ones" },
      { flag: "strict", summary: "check: what is a warning otherwise is an error" },
      { flag: "json", summary: "as JSON" },
    ],
    examples: [
      "llmnode config path",
      "llmnode config check worker.toml",
      "llmnode config print join -- --port 8080",
    ],
    async run(invocation, terminal) {
      const [action = "", word] = invocation.words;
      const found = actionNamed("config", ACTIONS, action);
      if (invocation.rest !== null && (action !== "print" || word === undefined)) {
        throw usage(
          'options after "--" are those of the command in: llmnode config print <command>',
        );
      }
      const { options } = invocation;
      const given = options.text("config");
      return found({ invocation, terminal, commands, given, word, isJson: options.isOn("json") });
    },
  };
}

function stateOf(source: Parameters<typeof openSource>[0]): string {
  try {
    return openSource(source) === null ? "not there" : "read";
  } catch (error) {
    if (error instanceof LlmnodeError) return "wrong: llmnode config check";
    throw error;
  }
}

/** Stands for every command that only asks a head. */
const ANY: CommandSpec = {
  name: "any",
  usage: "",
  summary: "",
  options: [],
  examples: [],
  run: async () => EXIT.ok,
};

function rowsOf(job: Job): ConfigRow[] {
  const { invocation, terminal, commands, given, word } = job;
  const { env, rest } = invocation;
  const tables = commands.filter(({ hasConfigTable }) => hasConfigTable === true);
  const command = tables.find(({ name }) => name === word);
  if (word !== undefined && command === undefined) {
    const known = tables.map(({ name }) => name).join(", ");
    throw usage(`config print: "${cleanLine(word, 80)}" has no table; there are: ${known}`);
  }
  const shown = new Set<string>();
  const report = ({ isError, text, hint }: Finding) => {
    if (isError) throw usage(text, hint);
    if (!shown.has(text)) terminal.err.write(`warning: ${text}\n`);
    shown.add(text);
  };
  const gather = (spec: CommandSpec) =>
    gatherConfig({ command: spec, commands, given, env, report });
  const own =
    given === null || given === "/dev/null" ? null : openSource({ kind: "given", path: given });
  const alone = own !== null && !isShared(own) ? commandOf(own, commands) : null;
  const chosen = command ?? alone;
  const flags = flagsOf(chosen, rest ?? [], commands);
  if (chosen !== null) return commandRows(chosen, { config: gather(chosen), flags, env });
  return [
    ...generalRows({ config: gather(ANY), flags: globalFlags(invocation), env }),
    ...tables.flatMap((spec) => commandRows(spec, { config: gather(spec), flags, env })),
  ];
}

/** What was typed for this command counts for others too. */
function globalFlags({ options }: Invocation): Map<string, string[]> {
  const given = GLOBAL_OPTIONS.filter(({ flag }) => options.from(flag) === "flag");
  return new Map(given.map(({ flag }) => [flag, options.texts(flag)]));
}

/** Of a command line that would begin with this command. */
function flagsOf(
  command: CommandSpec | null,
  words: readonly string[],
  commands: readonly CommandSpec[],
): Map<string, string[]> {
  const line = readLine([...(command === null ? [] : [command.name]), ...words], commands);
  refuseOptions(line);
  return line.flags;
}

function print(terminal: Terminal, text: string): void {
  terminal.out.write(`${text}\n`);
}
