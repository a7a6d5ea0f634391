/** `llmnode head`: the one address that clients and workers connect to. */

import { networkInterfaces } from "node:os";
import type { Head } from "../../head/head.ts";
import type { HeadOptions } from "../../head/options.ts";
import { formatHostPort, isLoopback } from "../../util/host-port.ts";
import type { Log } from "../../util/log.ts";
import { shellWord } from "../base/shell-word.ts";
import {
  daemonLog,
  dataDirectory,
  DEFAULT_HTTP_PORT,
  DEFAULT_SESSION_PORT,
  isForPerson,
} from "../daemon/daemon.ts";
import { typedName, versionFacts } from "../daemon/program.ts";
import { restartInPlace } from "../daemon/reexec.ts";
import { runDaemon } from "../daemon/shutdown.ts";
import type { CommandSpec, Invocation } from "../base/spec.ts";
import type { Terminal } from "../base/terminal.ts";
import { runHeadAction } from "./head-backup.ts";
import { HEAD_OPTIONS } from "./head-options.ts";
import { readHead } from "./head-wanted.ts";

export const headCommand: CommandSpec = {
  name: "head",
  usage: "head [backup <file>|restore <file>] [options]",
  summary: "run the head: the one address for clients and workers",
  isDaemon: true,
  hasConfigTable: true,
  details: [
    "Clients speak the OpenAI API to it; workers come to it with `llmnode join`. The link between",
    "head and workers is encrypted; a worker needs a join token the first time, which the head makes",
    "at its first start: llmnode join-token show.",
    "",
    "backup writes all that the head knows of tokens, keys, aliases, drains and workers, with its own",
    "key, into one file, while it runs or not; restore makes a new --data-dir out of that file, and",
    "workers come back to the head that is started there.",
  ],
  argument: { name: "action", required: false, words: ["backup", "restore"] },
  secondArgument: { name: "file", required: false },
  options: HEAD_OPTIONS,
  examples: [
    "llmnode head",
    "llmnode head --listen 127.0.0.1:9000",
    "llmnode head --session-listen 127.0.0.1     # workers on this machine only",
    "llmnode head backup head-1.backup",
    "llmnode head restore head-1.backup --data-dir /var/lib/llmnode",
  ],
  check: readHead,
  async run(invocation, terminal) {
    const { options, env } = invocation;
    if (invocation.words.length > 0) return await runHeadAction(invocation, terminal);
    const wanted = readHead(invocation);
    restartInPlace(env);
    const log = daemonLog(invocation, terminal);
    const requestLog = requestLogOf(invocation, terminal);
    const { startHead } = await import("../../head/head.ts");
    const { version } = versionFacts();
    return runDaemon({
      log,
      start: () =>
        startHead({
          ...wanted,
          dataDir: dataDirectory(options, env),
          version,
          log,
          ...(requestLog && { requestLog }),
        }),
      started: (head) =>
        announce(head, { invocation, terminal, log, clientHost: wanted.listen.host }),
      farewell: () => "stopping, running requests may end",
      // On a terminal it says that the terminal has gone.
      ...(wanted.tls === null || terminal.errIsTty
        ? {}
        : { onSignal: { SIGHUP: (head: Head) => void head.reloadTls() } }),
    });
  },
};

/** One line per request on stdout, in the log's format; the log itself is on stderr. */
function requestLogOf(
  { options }: Invocation,
  terminal: Terminal,
): HeadOptions["requestLog"] | null {
  if (options.isOn("no-request-log")) return null;
  const asked = options.choice("log-format", ["auto", "text", "logfmt", "json"]);
  const format = asked === "auto" ? (terminal.outIsTty ? "text" : "logfmt") : asked;
  return { format, write: (text) => terminal.out.write(text) };
}

interface Announcement {
  invocation: Invocation;
  terminal: Terminal;
  log: Log;
  /** The host that clients were told to connect to; a wildcard means any of this machine's. */
  clientHost: string;
}

/** State and next commands: a few lines for a person, one log line for a machine. */
function announce(head: Head, { invocation, terminal, log, clientHost }: Announcement): void {
  const { version } = versionFacts();
  const sessions = head.sessionAddress;
  if (!isForPerson(invocation.options, terminal)) {
    log.info("head is up", {
      url: head.url,
      sessions: formatHostPort(sessions),
      version,
      join_token: "llmnode join-token show",
    });
    return;
  }
  const { options, env } = invocation;
  const program = typedName(env);
  const { protocol } = new URL(head.url);
  const port = new URL(head.url).port || (protocol === "https:" ? "443" : "80");
  const local = isLoopback(sessions.host);
  const joinHost = isWildcard(sessions.host) ? machineAddress() : sessions.host;
  const joinPort = sessions.port === DEFAULT_SESSION_PORT ? "" : `:${sessions.port}`;
  const joinAddress = joinHost.includes(":") && joinPort !== "" ? `[${joinHost}]` : joinHost;
  const elsewhere = Number(port) === DEFAULT_HTTP_PORT ? "" : ` --head ${head.url}`;
  // A client compares the name that it calls with the certificate's.
  const clients = head.name ?? (isWildcard(clientHost) ? machineAddress() : clientHost);
  const insecure = options.isOn("insecure") ? " --insecure" : "";
  const dir = options.isGiven("data-dir")
    ? ` --data-dir ${shellWord(dataDirectory(options, env))}`
    : "";
  // There commands find the admin token, and the certificate that they may trust.
  const state = dir === "" ? "" : `LLMNODE_DATA=${shellWord(dataDirectory(options, env))} `;
  const engine = "-- vllm serve Qwen/Qwen3-8B --port 8080";
  // What goes to a file or a collector is read by others: there it is said how to get it.
  const token = terminal.errIsTty ? head.joinToken() : null;
  const how = head.joinToken() === null ? "create" : "show";
  const here = isWildcard(sessions.host) ? "127.0.0.1" : joinAddress;
  terminal.err.write(
    [
      `llmnode ${version}: the head is up`,
      "",
      `  OpenAI API     ${protocol}//${formatHostPort({ host: clients, port: Number(port) })}/v1`,
      `  worker here    ${program} join ${here}${joinPort}${dir}${insecure} ${engine}`,
      local
        ? "  elsewhere      not possible: --session-listen is for this machine only"
        : `  elsewhere      LLMNODE_TOKEN=${token ?? "<join token>"} llmnode join ${joinAddress}${joinPort}${insecure} ${engine}`,
      ...(token === null
        ? [`  join token     ${state}${program} join-token ${how}${elsewhere}`]
        : []),
      `  look           ${state}${program} status${elsewhere}`,
      `  watch          ${state}${program} top${elsewhere}`,
      "",
      "",
    ].join("\n"),
  );
}

function isWildcard(host: string): boolean {
  return host === "0.0.0.0" || host === "::";
}

/** The first address of this machine that others may reach, else its loopback address. */
function machineAddress(): string {
  const all = Object.values(networkInterfaces()).flatMap((addresses) => addresses ?? []);
  const outward = all.find(({ family, internal }) => family === "IPv4" && !internal);
  return outward?.address ?? "127.0.0.1";
}
