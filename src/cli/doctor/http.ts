/** What the head's HTTP port tells: its clock, its version, and whether streams come through at once. */

import { LlmnodeError, messageOf, systemCode } from "../../protocol/errors.ts";
import { isLoopback } from "../../util/host-port.ts";
import { fieldsIn, parseJson } from "../../util/json.ts";
import { cleanLine } from "../../util/text.ts";
import { formatDuration } from "../../util/units.ts";
import { getJson } from "../client/api.ts";
import type { HeadTls } from "../client/head-tls.ts";
import { tlsTrouble } from "../client/head-trouble.ts";
import { type Check, failed, notChecked, ok, warning } from "./check.ts";

export interface HttpHead {
  /** Origin, without a trailing slash. */
  url: string;
  timeoutMs: number;
  /** What is trusted; absent for plain http. */
  tls?: HeadTls;
}

/** Above this, logs of two machines are hard to read side by side; a day is what the head refuses. */
const CLOCK_WARN_MS = 5000;
const CLOCK_FAIL_MS = 24 * 3_600_000;

export async function checkHttp(head: HttpHead): Promise<Check[]> {
  const sentAt = Date.now();
  try {
    const response = await ask(head, "/health/live");
    const body = (await response.text()).slice(0, 1000);
    const middle = (sentAt + Date.now()) / 2;
    if (!response.ok || !/"status"\s*:\s*"live"/.test(body)) {
      const what = `${head.url} answers with status ${response.status}, but not as a head does`;
      const hint = "another program on that port? the head's: llmnode doctor --head <url>";
      return [failed("http", what, hint), clockSkipped("no head answers")];
    }
    return [ok("http", `${head.url} answers`), clock(response.headers.get("date"), middle)];
  } catch (error) {
    const tls = await tlsTrouble(head.url, error);
    const hint = tls?.hint ?? `is it running?   llmnode head   (clients use ${head.url})`;
    const why = tls?.reason ?? reason(error, head);
    return [failed("http", `${head.url}: ${why}`, hint), clockSkipped("no answer")];
  }
}

/** `here` is our time, in milliseconds since 1970, when the head wrote its `date` header. */
export function clock(date: string | null, here: number): Check {
  const there = date === null ? Number.NaN : Date.parse(date);
  if (Number.isNaN(there)) return clockSkipped("the answer has no time");
  // The header is cut to whole seconds.
  const apart = Math.max(0, Math.abs(there + 500 - here) - 500);
  const what = `${formatDuration(apart)} from the head's clock`;
  const hint = "correct the wrong clock, for example: timedatectl set-ntp true";
  if (apart > CLOCK_FAIL_MS) return failed("clock", `${what}: workers are refused`, hint);
  return apart > CLOCK_WARN_MS ? warning("clock", what, hint) : ok("clock", what);
}

function clockSkipped(why: string): Check {
  return notChecked("clock", why, "fix what failed above, then run this again");
}

/** The head's own version, which it tells on its own machine only; null when it does not tell. */
export async function headVersion(head: HttpHead): Promise<string | null> {
  try {
    const text = await getJson({ ...head, retryPausesMs: [] }, "/api/v1/status");
    const version = fieldsIn(fieldsIn(parseJson(text))["head"])["version"];
    return typeof version === "string" && version !== "" ? cleanLine(version, 64) : null;
  } catch (error) {
    if (error instanceof LlmnodeError) return null;
    throw error;
  }
}

/**
 * Whether something between head and client holds streams back: the head sends one comment at once
 * and the next after half a second, which then must not arrive together.
 */
export async function checkStream(head: HttpHead): Promise<Check> {
  const name = "streaming";
  try {
    const response = await ask(head, "/health/stream");
    if (response.status === 404) {
      await response.body?.cancel();
      return notChecked(
        name,
        "this head is older and has no such test",
        "update llmnode on the head",
      );
    }
    if (!response.ok)
      return notChecked(name, `status ${response.status}`, "look at what answers there");
    const arrived = await arrivals(response);
    return streamVerdict(arrived);
  } catch (error) {
    return notChecked(name, reason(error, head), "fix what failed above, then run this again");
  }
}

/** `arrived`: when each of the two comments came, in milliseconds. */
export function streamVerdict([first, second]: readonly number[]): Check {
  const name = "streaming";
  const hint =
    "switch buffering off there (nginx: proxy_buffering off; others: no compression or caching of text/event-stream)";
  if (first === undefined || second === undefined) {
    return failed(name, "the test stream broke off before its end", hint);
  }
  // Half of the pause: a slow network moves both by about the same.
  if (second - first < 250) {
    return failed(name, "something between head and client holds streams back", hint);
  }
  return ok(name, "streams come through at once");
}

async function arrivals(response: Response): Promise<number[]> {
  const times: number[] = [];
  const decoder = new TextDecoder();
  let read = "";
  for await (const chunk of response.body ?? []) {
    read = (read + decoder.decode(chunk, { stream: true })).slice(0, 10_000);
    const comments = read.split("\n\n").length - 1;
    while (times.length < Math.min(comments, 2)) times.push(performance.now());
  }
  return times;
}

async function ask(head: HttpHead, path: string): Promise<Response> {
  return await fetch(head.url + path, {
    redirect: "manual",
    signal: AbortSignal.timeout(head.timeoutMs),
    // A proxy from the environment is for other machines: it cannot reach this one's loopback.
    ...(isLoopback(new URL(head.url).hostname) ? { proxy: false } : {}),
    ...(head.tls === undefined ? {} : { tls: head.tls }),
  });
}

function reason(error: unknown, head: HttpHead): string {
  if (error instanceof Error && error.name === "TimeoutError") {
    return `no answer in ${formatDuration(head.timeoutMs)}`;
  }
  const code = systemCode(error);
  if (code === "ConnectionRefused" || code === "ECONNREFUSED") return "connection refused";
  if (code === "ECONNRESET") return "it closes the connection";
  return messageOf(error);
}
