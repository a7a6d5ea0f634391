/** `llmnode join`: runs or watches an engine and serves it through a head. */

import { LlmnodeError, messageOf } from "../../protocol/errors.ts";
import { formatHostPort, parseHostPort } from "../../util/host-port.ts";
import { cleanLine, count } from "../../util/text.ts";
import type { WorkerOptions } from "../../worker/options.ts";
import { shellWord } from "../argv.ts";
import { daemonLog, dataDirectory, DEFAULT_SESSION_PORT, originOption } from "../daemon.ts";
import { joinExitCode } from "../exit-codes.ts";
import type { Options } from "../options.ts";
import { selfCommand, versionFacts } from "../program.ts";
import { restartInPlace, TOKEN_VARIABLE } from "../reexec.ts";
import { runDaemon } from "../shutdown.ts";
import { type CommandSpec, DATA_DIR_OPTION, type Invocation, LOG_OPTIONS } from "../spec.ts";

const USAGE = "join <head> [options] -- <engine command...>";

export const joinCommand: CommandSpec = {
  name: "join",
  usage: USAGE,
  summary: "run an inference engine on this machine and serve it through a head",
  isDaemon: true,
  details: [
    "<head> is host, host:port or [v6]:port of the head's worker address (port 8093 if left out).",
    "The link to it is encrypted. A join token lets a worker in the first time: on the head's own",
    "machine it is found by itself, elsewhere `llmnode join-token show` on the head shows it.",
    'Everything after "--" is the engine\'s command: it is run as it stands, not through a shell.',
    "With --attach <url> an engine that already runs is used instead, and left alone at the end.",
    "",
    "Exit codes: 0 stopped by a signal, 125 llmnode failed or the head refused, 126 the engine",
    "program cannot be run, 127 there is no such program, 2 usage.",
  ],
  argument: { name: "head", required: true },
  takesRest: true,
  options: [
    {
      flag: "attach",
      value: "<url>",
      env: "LLMNODE_ATTACH",
      summary: "use the engine that already runs there, such as http://127.0.0.1:11434",
    },
    {
      flag: "name",
      value: "<name>",
      env: "LLMNODE_NAME",
      defaultNote: "the host's name",
      summary: "the worker's name",
    },
    {
      flag: "label",
      value: "<key=value>",
      repeat: true,
      env: "LLMNODE_LABEL",
      summary: "a label for the worker",
    },
    {
      flag: "port",
      value: "<port>",
      env: "LLMNODE_PORT",
      defaultNote: "from the command or the engine's output",
      summary: "the engine's port",
    },
    {
      flag: "data",
      value: "<way>",
      env: "LLMNODE_DATA_WAY",
      default: "auto",
      summary:
        "how requests reach the engine: direct (the head connects to it), lane (over connections that the worker opens), auto: direct on one machine, else lane",
    },
    {
      flag: "advertise",
      value: "<url>",
      env: "LLMNODE_ADVERTISE",
      summary: "the address at which the head reaches the engine",
    },
    {
      flag: "token",
      value: "<join token>",
      env: TOKEN_VARIABLE,
      defaultNote: "on the head's machine its own",
      summary: "lets the worker in; taken out of the process list at once, the variable is better",
    },
    {
      flag: "token-file",
      value: "<file>",
      summary: "a file with the join token, --token-file=- for standard input; wins over --token",
    },
    DATA_DIR_OPTION,
    {
      flag: "insecure",
      env: "LLMNODE_INSECURE",
      summary: "the head runs with --insecure: nothing is encrypted, whoever answers is believed",
    },
    ...LOG_OPTIONS,
  ],
  examples: [
    "llmnode join 127.0.0.1 -- vllm serve Qwen/Qwen3-8B --port 8080",
    "llmnode join 10.0.0.5 --token-file token --label rack=3 -- llama-server -m model.gguf --host 0.0.0.0",
    "llmnode join 127.0.0.1 --attach http://127.0.0.1:11434",
    "llmnode join 127.0.0.1 -- llmnode sim --model demo --port 0     # no GPU needed",
  ],
  explainExtraWords(words, typed) {
    const end = typed.indexOf("--");
    const extra = cleanLine(words[1] ?? "", 80);
    if (end !== -1) return `join: unexpected argument "${extra}" before "--"`;
    const command = typed.map(shellWord).join(" ");
    const line = `llmnode join ${shellWord(words[0] ?? "<head>")} -- ${command}`;
    return `put the engine command after "--": ${cleanLine(line, 1000)}`;
  },
  exitCode: joinExitCode,
  async run(invocation, terminal) {
    const { options, env } = invocation;
    restartInPlace(env);
    const wanted = readWorker(invocation);
    const log = daemonLog(invocation, terminal);
    const joinToken = await readJoinToken(options);
    const { startWorker } = await import("../../worker/worker.ts");
    return runDaemon({
      log,
      start: () =>
        startWorker({
          ...wanted,
          insecure: options.isOn("insecure"),
          joinToken,
          dataDir: dataDirectory(options, env),
          version: versionFacts().version,
          data: options.choice("data", ["auto", "direct", "lane"]),
          log,
          printLine: (line) => terminal.out.write(`e1| ${cleanLine(line, 4000)}\n`),
          env,
          selfCommand: selfCommand(),
        }),
      started: (worker) => {
        log.info(`worker ${cleanLine(worker.name, 100)} is up, Ctrl-C leaves`, {
          head: formatHostPort(wanted.head),
        });
      },
      farewell: ({ inFlight }) =>
        inFlight === null ? "draining" : `draining ${count(inFlight, "request")}`,
    });
  },
};

type Wanted = Pick<WorkerOptions, "head" | "name" | "labels" | "engine" | "port" | "advertise">;

/** What the command line says about the worker; throws `usage`. */
function readWorker({ words, rest, options }: Invocation): Wanted {
  const word = words[0] ?? "";
  const head = parseHostPort(word, { port: DEFAULT_SESSION_PORT });
  if (head === null || head.port === 0) {
    throw usage(`join: "${cleanLine(word, 80)}" is no address: host, host:port or [v6]:port`);
  }
  const shown = cleanLine(word, 200);
  const engine = readEngine(shown, rest, originOption(options, "attach"));
  const port = options.integer("port", { min: 1, max: 65_535 });
  if (port !== null && "attach" in engine) {
    throw usage("--port and --attach exclude each other: the port is in the URL");
  }
  return {
    head,
    name: readName(options),
    labels: readLabels(options),
    engine,
    port,
    advertise: originOption(options, "advertise"),
  };
}

function readEngine(
  head: string,
  rest: readonly string[] | null,
  attach: string | null,
): WorkerOptions["engine"] {
  if (attach !== null && rest !== null) {
    throw usage('either --attach or an engine command after "--", not both');
  }
  if (attach !== null) return { attach };
  if (rest !== null && rest[0] !== undefined && rest[0] !== "") return { argv: [...rest] };
  throw new LlmnodeError(
    "usage",
    rest === null ? "join needs an engine" : 'join needs an engine command after "--"',
    {
      hints: [
        `run one:                  llmnode join ${head} -- vllm serve Qwen/Qwen3-8B --port 8080`,
        `use one that runs:        llmnode join ${head} --attach http://127.0.0.1:11434`,
        `try it without a GPU:     llmnode join ${head} -- llmnode sim --model demo --port 0`,
      ],
    },
  );
}

/** Throws `usage` for a file that cannot be read or is empty. */
async function readJoinToken(options: Options): Promise<string | null> {
  const file = options.text("token-file");
  if (file === null) return options.text("token");
  const shown = cleanLine(file, 200);
  const text = await (file === "-" ? Bun.stdin : Bun.file(file)).text().catch((error: unknown) => {
    throw usage(`--token-file ${shown} cannot be read: ${messageOf(error)}`);
  });
  const token = text.trim();
  if (token === "") throw usage(`--token-file ${shown} is empty`);
  return token;
}

function readName(options: Options): string | null {
  const name = options.text("name");
  // Names become file names on the worker and words of commands, tables and labels elsewhere.
  if (name === null || /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/.test(name)) return name;
  throw options.invalid("name", "at most 63 letters, digits, dots, dashes and underscores");
}

function readLabels(options: Options): Record<string, string> {
  const pairs = options.texts("label").map((text): [string, string] => {
    const match = /^([A-Za-z0-9][A-Za-z0-9._/-]{0,62})=([A-Za-z0-9._:/@+-]{0,63})$/.exec(text);
    if (match) return [match[1] ?? "", match[2] ?? ""];
    throw usage(`--label needs key=value, not "${cleanLine(text, 80)}"`);
  });
  return Object.fromEntries(pairs);
}

function usage(message: string): LlmnodeError {
  return new LlmnodeError("usage", message);
}
