/** What can go wrong with a simulated engine: the names that `sim --fault` takes. */

import { usage } from "../base/messages.ts";
import { LlmnodeError } from "../../protocol/errors.ts";
import { FAILS, type SimOptions } from "../../sim/core/options.ts";
import { cleanLine } from "../../util/text.ts";
import { parseDuration } from "../../util/units.ts";
import {
  createOptions,
  type Options,
  type OptionSpec,
  parseBytes,
  type SourcedText,
} from "../base/options.ts";
import { suggest } from "../base/suggest.ts";
import { columns } from "../base/table.ts";

const TOKENS = { min: 1, max: Number.MAX_SAFE_INTEGER };

/** By name; each is read as an option is. */
export const FAULTS: readonly OptionSpec[] = [
  {
    flag: "crash-after",
    value: "<tokens>",
    summary: "die when one request has produced this many tokens",
  },
  {
    flag: "crash-on-text",
    value: "<text>",
    summary: "die of each prompt that contains this text, once it is read",
  },
  {
    flag: "die-mid-stream",
    value: "<tokens>",
    summary: "cut each stream's connection after this many tokens",
  },
  {
    flag: "error-rate",
    value: "<share>",
    defaultNote: "0",
    summary: "the share of requests that is answered with an error, 0 to 1",
  },
  {
    flag: "error-in-stream",
    value: "<tokens>",
    summary: "end each stream with an error event after this many tokens",
  },
  {
    flag: "silence",
    value: "<duration>",
    defaultNote: "0",
    summary: "pause for this long after each answer's first token",
  },
  {
    flag: "no-done",
    summary: "end streams without their end mark, such as data: [DONE]",
  },
  {
    flag: "refuse-stream-options",
    summary: "answer 400 to requests with stream_options",
  },
  { flag: "ignore-term", summary: "ignore SIGTERM" },
  {
    flag: "slow-health",
    value: "<duration>",
    defaultNote: "1s like sglang, else 0",
    summary: "take this long to answer a health check",
  },
  {
    flag: "exit-code",
    value: "<code>",
    defaultNote: "1, or as the engine has it",
    summary: "the exit code of every death that is played; 137 is SIGKILL of itself",
  },
  {
    flag: "exit-after",
    value: "<duration>",
    summary: "die this long after it became ready",
  },
  {
    flag: "fail",
    value: "<class>",
    summary: `print what the engine prints when its start fails, and end: ${FAILS.join(", ")}`,
  },
  {
    flag: "hang-after",
    value: "<duration|requests>",
    summary: "stop answering, this long after it became ready or after this many requests",
  },
  {
    flag: "health-lies",
    summary: "answer health checks and lists even while it hangs",
  },
  {
    flag: "spam-log",
    value: "<size[/s]>",
    summary: "print this much meaningless log, in all (100MB) or each second (10MB/s)",
  },
  {
    flag: "bind-late",
    value: "<duration>",
    defaultNote: "0",
    summary: "open the port this much later than it would",
  },
  {
    flag: "bound-not-listening",
    value: "<duration>",
    defaultNote: "0",
    summary: "find the port free at the start, but refuse connections for this long after the load",
  },
  {
    flag: "reset-while-loading",
    summary: "take connections while it loads and reset them, as docker's proxy does",
  },
  {
    flag: "idle-close",
    value: "<seconds>",
    summary: "close connections that have been idle for this many seconds; uvicorn: 5",
  },
  {
    flag: "fork-child",
    summary: "start a child that outlives it, in its process group",
  },
  {
    flag: "setsid-child",
    summary: "start a child that outlives it, in a session of its own",
  },
  {
    flag: "progress-bar",
    summary: "draw the percentages of the load on stderr, each over the last one",
  },
  {
    flag: "kill-on-term",
    summary: "on SIGTERM end by SIGKILL of itself, as SGLang does",
  },
];

export function readFaults(options: Options) {
  const faults = faultsIn(options.each("fault"));
  return {
    crashAfterTokens: faults.integer("crash-after", TOKENS),
    crashOnText: faults.text("crash-on-text"),
    dieMidStreamTokens: faults.integer("die-mid-stream", TOKENS),
    noDone: faults.isOn("no-done"),
    refuseStreamOptions: faults.isOn("refuse-stream-options"),
    errorRate: faults.number("error-rate", { min: 0, max: 1 }) ?? 0,
    errorInStreamTokens: faults.integer("error-in-stream", TOKENS),
    silenceMs: faults.durationMs("silence") ?? 0,
    healthTimeMs: faults.durationMs("slow-health"),
    ignoreTerm: faults.isOn("ignore-term"),
    killOnTerm: faults.isOn("kill-on-term"),
    exitCode: faults.integer("exit-code", { min: 0, max: 255 }),
    exitAfterMs: faults.durationMs("exit-after"),
    fail: faults.isGiven("fail") ? faults.choice("fail", FAILS) : null,
    ...readHang(faults),
    healthLies: faults.isOn("health-lies"),
    spamLog: readSpam(faults),
    bindLateMs: faults.durationMs("bind-late") ?? 0,
    boundOnlyMs: faults.durationMs("bound-not-listening") ?? 0,
    resetWhileLoading: faults.isOn("reset-while-loading"),
    idleCloseS: faults.integer("idle-close", { min: 1, max: 255 }),
    forkChild: faults.isOn("fork-child"),
    setsidChild: faults.isOn("setsid-child"),
    redrawProgress: faults.isOn("progress-bar"),
  };
}

/** A bare number counts requests, one with a unit is a time. */
function readHang(faults: Options): Pick<SimOptions, "hangAfterMs" | "hangAfterRequests"> {
  const text = faults.text("hang-after");
  if (text === null) return { hangAfterMs: null, hangAfterRequests: null };
  if (/^\d{1,15}$/.test(text)) return { hangAfterMs: null, hangAfterRequests: Number(text) };
  const hangAfterMs = parseDuration(text);
  if (hangAfterMs !== null) return { hangAfterMs, hangAfterRequests: null };
  throw faults.invalid("hang-after", "a duration such as 10s, or a number of requests");
}

function readSpam(faults: Options): SimOptions["spamLog"] {
  const text = faults.text("spam-log");
  if (text === null) return null;
  const perSecond = text.endsWith("/s");
  const bytes = parseBytes(perSecond ? text.slice(0, -2) : text);
  if (bytes === null) throw faults.invalid("spam-log", "a size such as 100MB, or 10MB/s");
  return { bytes, perSecond };
}

/** Of a fault that is named twice the last one counts. */
function faultsIn(given: readonly SourcedText[]): Options {
  const values = new Map<string, SourcedText[]>();
  for (const { text, source } of given) {
    const equals = text.indexOf("=");
    const name = equals === -1 ? text : text.slice(0, equals);
    const spec = FAULTS.find(({ flag }) => flag === name);
    if (spec === undefined) throw unknownFault(name, source);
    if (spec.value === undefined && equals !== -1) {
      throw usage(`${source} ${name} takes no value`);
    }
    const value = equals === -1 ? "" : text.slice(equals + 1);
    if (spec.value !== undefined && value === "") {
      throw usage(`${source} ${name} needs a value: ${name}=${spec.value}`);
    }
    values.set(name, [
      { text: spec.value === undefined ? "true" : value, source: `${source} ${name}` },
    ]);
  }
  return createOptions(FAULTS, { flags: new Map(), env: {}, file: values });
}

function unknownFault(name: string, source: string): LlmnodeError {
  const meant = suggest(
    name,
    FAULTS.map(({ flag }) => flag),
  );
  const advice = meant === null ? "; see: llmnode sim faults" : `: did you mean "${meant}"?`;
  return usage(`${source}: there is no fault "${cleanLine(name, 80)}"${advice}`);
}

/** Each with the form of its value, and its default where that says something. */
export function faultLines(): string[] {
  return columns(
    FAULTS.map(({ flag, value, defaultNote, summary }) => [
      value === undefined ? flag : `${flag}=${value}`,
      defaultNote === undefined ? summary : `${summary} [default: ${defaultNote}]`,
    ]),
  );
}
