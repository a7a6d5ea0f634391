/** Asks the head's HTTP API, with errors that say what was tried and what to try next. */

import { readUpTo } from "../../util/flow/bytes.ts";
import { type ErrorCode, LlmnodeError } from "../../protocol/errors.ts";
import { formatHostPort, isLoopback, parseHostPort } from "../../util/host-port.ts";
import { cleanLine } from "../../util/text.ts";
import { formatDuration } from "../../util/units.ts";
import { credentialFor, operatorsUrl } from "./admin-token.ts";
import { DEFAULT_HTTP_PORT, stateDirectory } from "../daemon/daemon.ts";
import { type HeadTls, isTlsHere, trustFor, type TrustOptions } from "./head-tls.ts";
import { isRefusal, isUnsent, unreachable } from "./head-trouble.ts";
import type { Invocation } from "../base/spec.ts";
import { fieldsIn, parseJson } from "../../util/json.ts";

/** The status of a large cluster is some megabytes; more than this is no head. */
const MAX_ANSWER_BYTES = 64 * 1024 * 1024;

export interface HeadClient {
  /** Origin of the head, without a trailing slash. */
  url: string;
  /** How long one call may take, all tries together. */
  timeoutMs: number;
  /** What is trusted; absent for plain http. */
  tls?: HeadTls;
  /** An admin token or API key to show. */
  credential?: string;
  /** Pauses before the second and third try of a refused connection. Default: 200 and 400 ms. */
  retryPausesMs?: readonly number[];
  /** Told what is waited for, once that takes a second. */
  progress?: (text: string) => void;
}

/**
 * Reads `--head`, `--ca` and `--timeout`. An address without a scheme means http, unless it is that
 * of a head on this machine that serves its clients by TLS.
 */
export function headClient(invocation: Invocation): HeadClient {
  const { options } = invocation;
  const text = options.text("head") ?? "";
  const plain = parseHeadUrl(text);
  if (plain === null) {
    throw options.invalid("head", "a host, host:port or URL such as http://10.0.0.5:8092");
  }
  const trust = trustOptions(invocation);
  const isOpen = !options.isGiven("head") || !/^https?:/i.test(text);
  const front =
    isOpen && isTlsHere(plain, trust.dataDir) ? plain.replace(/^http:/, "https:") : plain;
  const tls = trustFor(front, trust);
  const url = operatorsUrl(front, trust.dataDir);
  const timeoutMs = options.durationMs("timeout") ?? 5000;
  if (timeoutMs === 0) throw options.invalid("timeout", "more than zero");
  const { command, env } = invocation;
  // Where the command has a token file of its own, that is for something else.
  const isOwn = command.options.some(({ flag }) => flag === "token-file");
  // A variable wins over what a configuration file says of the head.
  const isWeaker =
    options.from("token-file") === "file" &&
    Boolean(env["LLMNODE_ADMIN_TOKEN"] || env["LLMNODE_API_KEY"]);
  const file = isOwn || isWeaker ? null : options.text("token-file");
  const credential = credentialFor({ url, env, dataDir: trust.dataDir, file });
  return {
    url,
    timeoutMs,
    ...(tls === null ? {} : { tls }),
    ...(credential === null ? {} : { credential }),
    ...(invocation.progress === undefined ? {} : { progress: invocation.progress }),
  };
}

/** `--ca`, and the data directory even for commands that have no option for it. */
export function trustOptions({ command, options, env }: Invocation): TrustOptions {
  const hasDir = command.options.some(({ flag }) => flag === "data-dir");
  const given = hasDir ? options.text("data-dir") : env["LLMNODE_DATA"] || null;
  return { ca: options.text("ca"), dataDir: stateDirectory(given, env) };
}

/** `host`, `host:port` or an http(s) URL to an origin; null when it is none of them. */
export function parseHeadUrl(text: string): string | null {
  if (/^https?:\/\//i.test(text)) {
    const url = URL.parse(text);
    if (url === null || url.hostname === "" || url.username !== "" || url.search !== "")
      return null;
    return url.origin + url.pathname.replace(/\/+$/, "");
  }
  const address = parseHostPort(text, { port: DEFAULT_HTTP_PORT });
  return address === null || address.port === 0 ? null : `http://${formatHostPort(address)}`;
}

/**
 * The text of a JSON answer of `path`. Throws `head_unreachable`, `forbidden`, `not_found` or
 * `bad_message` LlmnodeErrors.
 */
export async function getJson(client: HeadClient, path: string): Promise<string> {
  return await ask(client, { path });
}

/** As `getJson`, for what changes something; `not_found` and `refused` are the head's own. */
export async function postJson(client: HeadClient, path: string, body: object): Promise<string> {
  return await ask(client, { path, body });
}

/**
 * The answer of `path` as it comes, for as long as it takes; only its beginning must come in time.
 * `signal` ends it. Throws as `getJson`, and what the head says of the worker that it asks.
 */
export async function getStream(
  client: HeadClient,
  path: string,
  signal: AbortSignal,
): Promise<Response> {
  using _ = sayIfSlow(client);
  return await open(client, { path, endless: signal }, [...OWN_WORDS, ...FROM_BETWEEN]);
}

/** As `getStream`, for what is asked for by a POST without more to say. */
export async function postStream(
  client: HeadClient,
  path: string,
  signal: AbortSignal,
): Promise<Response> {
  return await open(client, { path, body: {}, endless: signal }, OWN_WORDS);
}

async function open(
  client: HeadClient,
  question: Question,
  own: readonly ErrorCode[],
): Promise<Response> {
  const response = await connect(client, question);
  if (response.ok) return response;
  const body = await readBounded(response);
  throw refusalOf(client, { path: question.path, status: response.status, body }, own);
}

/** A shorter wait needs no word. */
const PROGRESS_AFTER_MS = 1000;

const NEXT: readonly string[] = [
  "on the head's own machine, as its user, commands find the admin token by themselves",
  "with a head's own folder:   LLMNODE_DATA=<dir> llmnode ...",
  "elsewhere:   LLMNODE_ADMIN_TOKEN or LLMNODE_API_KEY (an operator's: llmnode key create --role operator)",
];

interface Question {
  path: string;
  /** Sent as JSON; without one it is a GET. */
  body?: object;
  /** The answer may take any time, until this aborts. */
  endless?: AbortSignal;
}

/** What the head says in words that need no others. */
const OWN_WORDS: readonly ErrorCode[] = [
  "not_found",
  "worker_not_found",
  "refused",
  "last_replica",
  "overloaded",
  "shutting_down",
];
/** The same of what lies between it and an engine. */
const FROM_BETWEEN: readonly ErrorCode[] = [
  "upstream_unreachable",
  "upstream_broken",
  "not_supported",
];

async function ask(client: HeadClient, question: Question): Promise<string> {
  using _ = sayIfSlow(client);
  const { path } = question;
  const started = performance.now();
  const response = await connect(client, question);
  const body = await readBounded(response).catch(async (error: unknown) => {
    if (error instanceof LlmnodeError) throw error;
    throw await unreachable(client, { error, tries: 1, elapsed: performance.now() - started });
  });
  const { status, ok } = response;
  if (ok && parseJson(body) !== undefined) return body;
  throw refusalOf(client, { path, status, body }, OWN_WORDS);
}

/** What is not the answer that was asked for; the codes in `own` keep the head's words. */
function refusalOf(
  client: HeadClient,
  { path, status, body }: { path: string; status: number; body: string },
  own: readonly ErrorCode[],
): LlmnodeError {
  const { message, code, subject } = errorOf(body);
  const known = own.find((one) => one === code);
  if (message !== null && known !== undefined) {
    return new LlmnodeError(known, message, subject === null ? {} : { subject });
  }
  if (status === 401 || status === 403) {
    return new LlmnodeError(
      "forbidden",
      `the head at ${client.url} does not allow this: ${message ?? `status ${status}`}`,
      { hints: [...NEXT], ...(message !== null && { reason: message }) },
    );
  }
  if (status < 300 || status === 404 || message === null) {
    return new LlmnodeError(
      "bad_message",
      `what answers at ${client.url} is not an llmnode head (${path}: status ${status})`,
      { hints: ["other address?   llmnode --head <url> ..."] },
    );
  }
  return new LlmnodeError("bad_message", `the head at ${client.url} answers: ${message}`);
}

function sayIfSlow({ url, timeoutMs, progress }: HeadClient): Disposable {
  const say = () =>
    progress?.(`waiting for the head at ${url} (at most ${formatDuration(timeoutMs)}) ...`);
  const timer = setTimeout(say, PROGRESS_AFTER_MS);
  return { [Symbol.dispose]: () => clearTimeout(timer) };
}

async function connect(client: HeadClient, { path, body, endless }: Question): Promise<Response> {
  const started = performance.now();
  const limit = new AbortController();
  const tooLate = () => limit.abort(new DOMException("no answer", "TimeoutError"));
  const timer = setTimeout(tooLate, client.timeoutMs);
  timer.unref();
  const signal = endless === undefined ? limit.signal : AbortSignal.any([limit.signal, endless]);
  const pauses = client.retryPausesMs ?? [200, 400];
  const host = new URL(client.url).hostname;
  for (let tries = 1; ; tries += 1) {
    try {
      const response = await fetch(client.url + path, {
        signal,
        redirect: "manual",
        headers: {
          accept: "application/json",
          ...(client.credential === undefined
            ? {}
            : { authorization: `Bearer ${client.credential}` }),
          ...(body === undefined ? {} : { "content-type": "application/json" }),
        },
        ...(body === undefined ? {} : { method: "POST", body: JSON.stringify(body) }),
        // A proxy from the environment is for other machines: it cannot reach this one's loopback.
        ...(isLoopback(host) ? { proxy: false } : {}),
        ...(client.tls === undefined ? {} : { tls: client.tls }),
        ...(endless === undefined ? {} : { timeout: false }),
      });
      if (endless !== undefined) clearTimeout(timer);
      return response;
    } catch (error) {
      const pause = pauses[tries - 1];
      const elapsed = performance.now() - started;
      // Only a refusal comes at once and may be gone a moment later, when a head restarts. What
      // changes something is not sent twice once it may have arrived.
      const again =
        (body === undefined ? isRefusal(error) : isUnsent(error)) &&
        pause !== undefined &&
        elapsed + pause < client.timeoutMs;
      if (!again) throw await unreachable(client, { error, tries, elapsed });
      await Bun.sleep(pause);
    }
  }
}

async function readBounded(response: Response): Promise<string> {
  const { bytes, isWhole } = await readUpTo(response.body, MAX_ANSWER_BYTES);
  if (!isWhole) throw new LlmnodeError("bad_message", "the answer never ends");
  return new TextDecoder().decode(bytes);
}

/** What an OpenAI-style error body says; nulls when it is none. */
function errorOf(body: string): Record<"message" | "code" | "subject", string | null> {
  const error = fieldsIn(fieldsIn(parseJson(body))["error"]);
  const textOf = (value: unknown) => (typeof value === "string" ? cleanLine(value, 500) : null);
  const message = textOf(error["message"]);
  if (message === null) return { message, code: null, subject: null };
  return { message, code: textOf(error["code"]), subject: textOf(error["subject"]) };
}
