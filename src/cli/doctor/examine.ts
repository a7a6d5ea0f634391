/** Runs all checks of `llmnode doctor`, those that wait on the network side by side. */

import { messageOf } from "../../protocol/errors.ts";
import type { HostPort } from "../../util/host-port.ts";
import type { HeadTls } from "../client/head-tls.ts";
import { type Check, failed, notChecked } from "./check.ts";
import { checkHttp, checkStream, headVersion } from "./http.ts";
import {
  checkTls,
  GET_TOKEN,
  askLink,
  type LinkTarget,
  tokenVerdict,
  versionVerdict,
} from "./link.ts";
import { checkDescriptors, checkDocker, checkEngine, checkNvidia } from "./machine.ts";
import { checkName, checkPort, type Port } from "./network.ts";
import { findTrust, type Shown } from "./trust.ts";

export interface Examination {
  /** Where clients connect. */
  url: string;
  tls?: HeadTls;
  session: HostPort;
  lane: HostPort;
  insecure: boolean;
  joinToken: string | null;
  dataDir: string;
  /** Origin of an engine to look at. */
  engine: string | null;
  /** Of this program. */
  version: string;
  timeoutMs: number;
  /** How long docker and nvidia-smi may take each. Default: 5 s. */
  toolTimeoutMs?: number;
}

/** Never throws for what it finds: that is in the checks, in the order of the report. */
export async function examine(subject: Examination): Promise<Check[]> {
  const { timeoutMs } = subject;
  const tools = { timeoutMs: subject.toolTimeoutMs ?? 5000 };
  const about = Promise.all([
    subject.engine === null ? null : checkEngine(subject.engine, timeoutMs),
    checkDocker(tools),
    checkNvidia(tools),
  ]);
  const name = await checkName(subject.session.host, timeoutMs);
  const head = name.status === "ok" ? await examineHead(subject) : [skipped()];
  const machine = (await about).filter((check) => check !== null);
  return [name, ...head, ...machine, checkDescriptors()];
}

async function examineHead(subject: Examination): Promise<Check[]> {
  const { timeoutMs } = subject;
  const { url, tls } = subject;
  const http = { url, timeoutMs, ...(tls === undefined ? {} : { tls }) };
  const [ports, [live, clock], stream, theirs, link] = await Promise.all([
    Promise.all(portsOf(subject).map((port) => checkPort(port, timeoutMs))),
    checkHttp(http),
    checkStream(http),
    headVersion(http),
    examineLink(subject),
  ]);
  const version = versionVerdict(link.answer, { ours: subject.version, theirs });
  return [...ports, live, link.tls, link.token, clock, version, stream].filter(
    (check) => check !== undefined,
  );
}

function portsOf(subject: Examination): Port[] {
  const { hostname, port, protocol } = new URL(subject.url);
  const host = hostname.replace(/^\[|\]$/g, "");
  const http = Number(port) || (protocol === "https:" ? 443 : 80);
  const open = "is it running, and does a firewall let its port through?";
  return [
    { name: "http port", address: { host, port: http }, hint: `${open} other port: --head <url>` },
    {
      name: "session port",
      address: subject.session,
      hint: `${open} workers need it; other port: llmnode doctor <host>:<port>`,
    },
    {
      name: "lane port",
      address: subject.lane,
      hint: `${open} workers need it unless the head reaches their engines; other port: --lane-port`,
    },
  ];
}

async function examineLink(subject: Examination) {
  const { session: head, insecure, version, timeoutMs, dataDir, joinToken } = subject;
  const target: LinkTarget = { head, insecure, version, timeoutMs };
  let shown: Shown[] = [];
  let token: Check | null = null;
  try {
    shown = findTrust({ dataDir, headHost: head.host, joinToken });
  } catch (error) {
    token = failed("join token", messageOf(error), GET_TOKEN);
  }
  const { check: tls, trusted } = await checkTls(target, shown);
  if (token) return { tls, token, answer: null };
  if (shown.length === 0) {
    const why = "there is none here, and no worker's credential";
    return { tls, token: notChecked("join token", why, `to join: ${GET_TOKEN}`), answer: null };
  }
  if (!trusted) {
    const why = "it is well-formed, but shown only to a head whose key is trusted";
    return { tls, token: notChecked("join token", why, "fix TLS first"), answer: null };
  }
  const answer = await askLink(target, trusted);
  return { tls, token: tokenVerdict(answer, trusted), answer };
}

function skipped(): Check {
  return notChecked("head", "its name cannot be resolved", "fix the name, then run this again");
}
