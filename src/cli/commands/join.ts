/** `llmnode join`: runs or watches an engine and serves it through a head. */

import { usage } from "../base/messages.ts";
import { messageOf } from "../../protocol/errors.ts";
import { formatHostPort } from "../../util/host-port.ts";
import type { Log } from "../../util/log.ts";
import { cleanLine, count } from "../../util/text.ts";
import type { Worker } from "../../worker/worker.ts";
import { shellWord } from "../base/shell-word.ts";
import { daemonLog, dataDirectory, isForPerson } from "../daemon/daemon.ts";
import { joinExitCode } from "../base/exit-codes.ts";
import { JOIN_OPTIONS } from "../join/options.ts";
import { workerBanner } from "../join/banner.ts";
import { readEngineVariables } from "../daemon/variables.ts";
import { readWorker } from "../join/worker.ts";
import type { Options, Environment } from "../base/options.ts";
import { selfCommand, versionFacts } from "../daemon/program.ts";
import { restartInPlace } from "../daemon/reexec.ts";
import { type Ending, runDaemon } from "../daemon/shutdown.ts";
import type { CommandSpec } from "../base/spec.ts";
import { readViaProxy } from "../daemon/via-proxy.ts";

const USAGE = "join <head> [options] -- <engine command...>";

export const joinCommand: CommandSpec = {
  name: "join",
  usage: USAGE,
  summary: "run an inference engine on this machine and serve it through a head",
  isDaemon: true,
  hasConfigTable: true,
  details: [
    "<head> is host, host:port or [v6]:port of the head's worker address (port 8093 if left out).",
    "The link to it is encrypted. A join token lets a worker in the first time: on the head's own",
    "machine it is found by itself, elsewhere `llmnode join-token show` on the head shows it.",
    'Everything after "--" is the engine\'s command: it is run as it stands, not through a shell.',
    "With --attach <url> an engine that already runs is used instead, and left alone at the end.",
    "",
    "All of it may stand in a TOML file, which `llmnode join --config worker.toml` reads: the options",
    'by their names without dashes, head = "10.0.0.5", command = ["vllm", "serve", ...], [env] and',
    "[labels]; or in the table [join] of ./llmnode.toml, see: llmnode help config. Flags win over",
    "LLMNODE_* variables, which win over the file.",
    "",
    "SIGTERM and Ctrl-C let requests end, then stop the engine; so does SIGUSR1, as Slurm sends it",
    "before a job's end. SIGUSR2 ends the worker alone: the next one takes its engine over.",
    "",
    "Exit codes: 0 stopped by a signal or by --until, 125 llmnode failed, the head refused or the",
    "engine ended for good, 126 the engine program cannot be run, 127 there is no such program,",
    "2 usage.",
  ],
  argument: { name: "head", required: true },
  takesRest: true,
  configKeys: { argument: "head", rest: "command" },
  options: JOIN_OPTIONS,
  examples: [
    "llmnode join 127.0.0.1 -- vllm serve Qwen/Qwen3-8B --port 8080",
    "llmnode join 10.0.0.5 --token-file token --label rack=3 -- llama-server -m model.gguf --host 0.0.0.0",
    "llmnode join 10.0.0.5 --gpus 0,1 --env HF_TOKEN -- vllm serve Qwen/Qwen3-32B -tp 2 --port 8080",
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
  check: readWorker,
  async run(invocation, terminal) {
    const { options, env } = invocation;
    restartInPlace(env);
    const wanted = readWorker(invocation);
    const viaProxy = readViaProxy(options, env);
    const log = daemonLog(invocation, terminal);
    const variables = readVariables(options, env, { isOwn: "argv" in wanted.engine, log });
    const joinToken = await readJoinToken(options);
    const { startWorker } = await import("../../worker/worker.ts");
    return runDaemon({
      log,
      start: () =>
        startWorker({
          ...wanted,
          engine: { ...wanted.engine, env: variables, selfCommand: selfCommand() },
          version: versionFacts().version,
          viaProxy,
          joinToken,
          dataDir: dataDirectory(options, env),
          log,
          printLine: (line) => terminal.out.write(`e1| ${cleanLine(line, 4000)}\n`),
        }),
      started: (worker) => {
        const until = wanted.until ? new Date(wanted.until).toISOString() : null;
        if (isForPerson(options, terminal)) {
          terminal.err.write(workerBanner({ ...wanted, name: worker.name, until, env }));
          return;
        }
        const head = formatHostPort(wanted.head);
        log.info(`worker ${cleanLine(worker.name, 100)} is up, Ctrl-C leaves`, {
          head,
          until: until ?? undefined,
        });
      },
      farewell: ({ inFlight }) =>
        inFlight === null ? "draining" : `draining ${count(inFlight, "request")}`,
      endings: ENDINGS,
    });
  },
};

const ENDINGS: Partial<Record<NodeJS.Signals, Ending<Worker>>> = {
  SIGUSR1: {
    farewell: "leaving, as SIGUSR1 asks",
    end: (worker, { force }) => worker.stop({ force, reason: "its time is over (SIGUSR1)" }),
  },
  SIGUSR2: {
    farewell: "leaving, the engine keeps running",
    end: (worker) => worker.release(),
  },
};

/** What the engine's environment is made of; says what it may be missed for. */
function readVariables(
  options: Options,
  env: Environment,
  { isOwn, log }: { isOwn: boolean; log: Log },
): Environment {
  const { env: variables, withheld } = readEngineVariables(options, env);
  if (isOwn && withheld.length > 0) {
    const flags = withheld.map((name) => `--env ${name}`).join(" ");
    log.info(`the engine is not given ${withheld.join(" and ")} of this shell; ${flags} does that`);
  }
  return variables;
}

/**
 * A file wins over a token that comes from as far away. Throws `usage` for a file that cannot be
 * read or is empty.
 */
async function readJoinToken(options: Options): Promise<string | null> {
  const file = options.text("token-file");
  const isFileWeaker = options.from("token-file") === "file" && options.from("token") !== "file";
  if (file === null || (isFileWeaker && options.isGiven("token"))) return options.text("token");
  const shown = `${options.named("token-file")} ${cleanLine(file, 200)}`;
  const text = await (file === "-" ? Bun.stdin : Bun.file(file)).text().catch((error: unknown) => {
    throw usage(`${shown} cannot be read: ${messageOf(error)}`);
  });
  const token = text.trim();
  if (token === "") throw usage(`${shown} is empty`);
  return token;
}
