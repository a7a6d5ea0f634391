/** `llmnode doctor`: looks at everything between this machine and a head, and says what to mend. */

import { usage } from "../base/messages.ts";
import { messageOf } from "../../protocol/errors.ts";
import { speaksTls } from "../../protocol/pin.ts";
import { formatHostPort, type HostPort, parseHostPort } from "../../util/host-port.ts";
import { cleanLine } from "../../util/text.ts";
import { headClient, trustOptions } from "../client/api.ts";
import {
  dataDirectory,
  DEFAULT_HTTP_PORT,
  DEFAULT_SESSION_PORT,
  originOption,
} from "../daemon/daemon.ts";
import { isHealthy, reportJson, reportLines } from "../doctor/check.ts";
import type { Examination } from "../doctor/examine.ts";
import { EXIT } from "../base/exit-codes.ts";
import { trustFor } from "../client/head-tls.ts";
import { versionFacts } from "../daemon/program.ts";
import { TOKEN_VARIABLE } from "../daemon/reexec.ts";
import { type CommandSpec, DATA_DIR_OPTION, type Invocation } from "../base/spec.ts";

export const doctorCommand: CommandSpec = {
  name: "doctor",
  usage: "doctor [<head>] [options]",
  summary: "check this machine and its connection to a head, and say what to fix",
  details: [
    "<head> is the same as for `llmnode join`: host, host:port or [v6]:port of its worker address.",
    "Clients' port is looked for at 8092 of that host unless --head says otherwise; without <head>",
    "it is the host of --head.",
    `The join token is --token-file's, else ${TOKEN_VARIABLE}'s, else the one on the head's machine;`,
    "nothing joins: the head is asked what it would say, and notes a refused test in its log.",
    "",
    "Each line is ok, warning or FAILED. Exit codes: 0 nothing failed, 1 something did.",
  ],
  argument: { name: "head", required: false },
  options: [
    { flag: "engine", value: "<url>", summary: "also look at the engine that runs there" },
    {
      flag: "token-file",
      value: "<file>",
      summary: "a file with the join token, --token-file=- for standard input",
    },
    {
      flag: "lane-port",
      value: "<port>",
      defaultNote: "the port above that for workers",
      summary: "the head's port for lanes, where it has another",
    },
    DATA_DIR_OPTION,
    { flag: "insecure", env: "LLMNODE_INSECURE", summary: "the head runs with --insecure" },
    { flag: "json", summary: "print the checks as JSON" },
  ],
  examples: [
    "llmnode doctor",
    "llmnode doctor 10.0.0.5 --token-file token --engine http://127.0.0.1:8080",
    "llmnode doctor 10.0.0.5 --json",
  ],
  async run(invocation, terminal) {
    const subject = await readSubject(invocation);
    // Brings the session's packages along, which no other short command needs.
    const { examine } = await import("../doctor/examine.ts");
    const checks = await examine(subject);
    const json = invocation.options.isOn("json");
    terminal.out.write(`${json ? reportJson(checks) : reportLines(checks).join("\n")}\n`);
    return isHealthy(checks) ? EXIT.ok : EXIT.failure;
  },
};

/** What the command line says; throws `usage`. */
async function readSubject(invocation: Invocation): Promise<Examination> {
  const { words, options, env } = invocation;
  const client = headClient(invocation);
  const session = sessionAddress(words[0], client.url);
  const isElsewhere = words[0] !== undefined && !options.isGiven("head");
  const lanePort = options.integer("lane-port", { min: 1, max: 65_535 });
  const url = isElsewhere ? await clientUrl(session.host, client.timeoutMs) : client.url;
  const tls = trustFor(url, trustOptions(invocation));
  return {
    url,
    ...(tls === null ? {} : { tls }),
    timeoutMs: client.timeoutMs,
    session,
    lane: { host: session.host, port: lanePort ?? Math.min(session.port + 1, 65_535) },
    insecure: options.isOn("insecure"),
    joinToken: await readToken(options.text("token-file"), env[TOKEN_VARIABLE]),
    dataDir: dataDirectory(options, env),
    engine: originOption(options, "engine"),
    version: versionFacts().version,
  };
}

function sessionAddress(word: string | undefined, url: string): HostPort {
  const host = new URL(url).hostname.replace(/^\[|\]$/g, "");
  if (word === undefined) return { host, port: DEFAULT_SESSION_PORT };
  const address = parseHostPort(word, { port: DEFAULT_SESSION_PORT });
  if (address !== null && address.port !== 0) return address;
  throw usage(`doctor: "${cleanLine(word, 80)}" is not an address: host, host:port or [v6]:port`);
}

/** The usual port of that machine, by TLS where it speaks that. */
async function clientUrl(host: string, timeoutMs: number): Promise<string> {
  const address = { host, port: DEFAULT_HTTP_PORT };
  const scheme = (await speaksTls(address, Math.min(timeoutMs, 1000))) ? "https" : "http";
  return `${scheme}://${formatHostPort(address)}`;
}

/** An empty variable counts as absent. */
async function readToken(file: string | null, variable: string | undefined) {
  if (file === null) return variable?.trim() || null;
  const source = file === "-" ? Bun.stdin : Bun.file(file);
  const text = await source.text().catch((error: unknown) => {
    const shown = cleanLine(file, 200);
    throw usage(`--token-file ${shown} cannot be read: ${messageOf(error)}`);
  });
  // An empty file is a join token that was lost, not none.
  return text.trim();
}
