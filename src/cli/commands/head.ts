/** `llmnode head`: the one address that clients and workers connect to. */

import { networkInterfaces } from "node:os";
import type { Head } from "../../head/head.ts";
import type { TlsFiles } from "../../head/client-tls.ts";
import type { HeadOptions } from "../../head/options.ts";
import { LlmnodeError } from "../../protocol/errors.ts";
import { formatHostPort, type HostPort, isLoopback } from "../../util/host-port.ts";
import type { Log } from "../../util/log.ts";
import { DEFAULT_HTTP_PORT } from "../api.ts";
import { shellWord } from "../argv.ts";
import { addressOption, daemonLog, dataDirectory, DEFAULT_SESSION_PORT } from "../daemon.ts";
import type { Options } from "../options.ts";
import { typedName, versionFacts } from "../program.ts";
import { restartInPlace } from "../reexec.ts";
import { runDaemon } from "../shutdown.ts";
import { type CommandSpec, DAEMON_OPTIONS, DATA_DIR_OPTION, type Invocation } from "../spec.ts";
import type { Terminal } from "../terminal.ts";

export const headCommand: CommandSpec = {
  name: "head",
  usage: "head [options]",
  summary: "run the head: the one address for clients and workers",
  isDaemon: true,
  details: [
    "Clients speak the OpenAI API to it; workers come to it with `llmnode join`. The link between",
    "head and workers is encrypted; a worker needs a join token the first time, which the head makes",
    "at its first start: llmnode join-token show.",
  ],
  options: [
    {
      flag: "listen",
      value: "<host:port>",
      env: "LLMNODE_LISTEN",
      default: "0.0.0.0:8092",
      summary: "where clients connect",
    },
    {
      flag: "session-listen",
      value: "<host:port>",
      env: "LLMNODE_SESSION_LISTEN",
      default: "0.0.0.0:8093",
      summary: "where workers connect",
    },
    {
      flag: "lane-listen",
      value: "<host:port>",
      env: "LLMNODE_LANE_LISTEN",
      defaultNote: "the port above that of --session-listen: 0.0.0.0:8094",
      summary: "where workers open the connections that carry requests to them",
    },
    {
      flag: "tls-cert",
      value: "<pem>",
      env: "LLMNODE_TLS_CERT",
      isPath: true,
      summary: "serve clients by TLS with this certificate, read anew when it changes or on SIGHUP",
    },
    {
      flag: "tls-key",
      value: "<pem>",
      env: "LLMNODE_TLS_KEY",
      isPath: true,
      summary: "the key that belongs to --tls-cert",
    },
    { ...DATA_DIR_OPTION, summary: "where the head keeps its key, its join tokens and its state" },
    {
      flag: "insecure",
      env: "LLMNODE_INSECURE",
      summary: "do not encrypt the link to workers, who then need join --insecure",
    },
    {
      flag: "max-body-size",
      value: "<size>",
      env: "LLMNODE_MAX_BODY_SIZE",
      default: "64MiB",
      summary: "the largest request body that is accepted",
    },
    {
      flag: "allow-advertise",
      value: "<cidr>",
      repeat: true,
      env: "LLMNODE_ALLOW_ADVERTISE",
      summary: "addresses other than its own that a worker's --advertise may name",
    },
    {
      flag: "cors",
      value: "<origin>",
      env: "LLMNODE_CORS",
      summary: "let web pages of this origin call the API, * for any (off unless given)",
    },
    {
      flag: "max-requests-per-address",
      value: "<n>",
      env: "LLMNODE_MAX_REQUESTS_PER_ADDRESS",
      default: "4096",
      summary: "requests that one client address may have running",
    },
    {
      flag: "shutdown-delay",
      value: "<duration>",
      env: "LLMNODE_SHUTDOWN_DELAY",
      default: "0",
      summary: "when stopped, not ready but serving for so long; 10s behind a load balancer",
    },
    {
      flag: "no-info-headers",
      env: "LLMNODE_NO_INFO_HEADERS",
      summary: "answers without x-llmnode-worker, -attempts and -queue-ms",
    },
    {
      flag: "metrics-open",
      env: "LLMNODE_METRICS_OPEN",
      summary: "answer /metrics to everybody, not to this machine only",
    },
    {
      flag: "no-request-log",
      env: "LLMNODE_NO_REQUEST_LOG",
      summary: "no line per request on stdout",
    },
    {
      flag: "log-bodies",
      env: "LLMNODE_LOG_BODIES",
      summary: "put prompts and answers into the request log; they are left out otherwise",
    },
    {
      flag: "otlp",
      value: "<url>",
      env: "LLMNODE_OTLP",
      summary: "send traces there by OTLP/HTTP, such as http://127.0.0.1:4318",
    },
    ...DAEMON_OPTIONS,
  ],
  examples: [
    "llmnode head",
    "llmnode head --listen 127.0.0.1:9000",
    "llmnode head --session-listen 127.0.0.1     # workers on this machine only",
  ],
  async run(invocation, terminal) {
    const { options, env } = invocation;
    const listen = addressOption(options, "listen", { host: "0.0.0.0", port: DEFAULT_HTTP_PORT });
    const sessionListen = addressOption(options, "session-listen", {
      host: "0.0.0.0",
      port: DEFAULT_SESSION_PORT,
    });
    const maxBodyBytes = options.bytes("max-body-size") ?? 0;
    if (maxBodyBytes === 0) throw options.invalid("max-body-size", "more than zero");
    const maxRequestsPerAddress =
      options.integer("max-requests-per-address", { min: 1, max: 1_000_000 }) ?? 4096;
    const shutdownDelayMs = options.durationMs("shutdown-delay") ?? 0;
    const tls = tlsFiles(options);
    const log = daemonLog(invocation, terminal);
    restartInPlace(env);
    const { startHead } = await import("../../head/head.ts");
    const { version } = versionFacts();
    return runDaemon({
      log,
      start: () =>
        startHead({
          listen,
          tls,
          sessionListen,
          laneListen: addressOption(options, "lane-listen", above(sessionListen)),
          insecure: options.isOn("insecure"),
          dataDir: dataDirectory(options, env),
          allowAdvertise: options.texts("allow-advertise"),
          version,
          log,
          infoHeaders: !options.isOn("no-info-headers"),
          logBodies: options.isOn("log-bodies"),
          metricsOpen: options.isOn("metrics-open"),
          ...optional("corsOrigin", options.text("cors")),
          ...optional("otlp", options.text("otlp")),
          ...optional("requestLog", requestLogOf(invocation, terminal)),
          settings: { maxBodyBytes, maxRequestsPerAddress, shutdownDelayMs },
        }),
      started: (head) => announce(head, { invocation, terminal, log, clientHost: listen.host }),
      farewell: () => "stopping, running requests may end",
      // On a terminal it says that the terminal has gone.
      ...(tls === null || terminal.errIsTty
        ? {}
        : { onSignal: { SIGHUP: (head: Head) => void head.reloadTls() } }),
    });
  },
};

/** Both files or none. Throws `usage`. */
function tlsFiles(options: Options): TlsFiles | null {
  const cert = options.text("tls-cert");
  const key = options.text("tls-key");
  if (cert !== null && key !== null) return { cert, key };
  if (cert === null && key === null) return null;
  const missing = cert === null ? "--tls-cert" : "--tls-key";
  throw new LlmnodeError(
    "usage",
    `head: --tls-cert and --tls-key go together, ${missing} is missing`,
  );
}

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

function optional<K extends string, V>(key: K, value: V | null | undefined): Partial<Record<K, V>> {
  return value === null || value === undefined ? {} : ({ [key]: value } as Partial<Record<K, V>>);
}

/** Where lanes are listened for unless told otherwise; beside any free port is any other. */
function above({ host, port }: HostPort): HostPort {
  return { host, port: port === 0 ? 0 : port + 1 };
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
  const asked = invocation.options.choice("log-format", ["auto", "text", "logfmt", "json"]);
  if (!(asked === "text" || (asked === "auto" && terminal.errIsTty))) {
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
  // There commands find the certificate that they may trust.
  const state =
    protocol === "https:" && dir !== ""
      ? `LLMNODE_DATA=${shellWord(dataDirectory(options, env))} `
      : "";
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
