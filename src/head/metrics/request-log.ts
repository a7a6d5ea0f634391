/** One line for each finished request, written in batches; prompts only where the record has them. */

import { messageOf as errorText } from "../../protocol/errors.ts";
import type { RequestRecord } from "../../proxy/record/record.ts";
import type { Log } from "../../util/log.ts";
import { sleep } from "../../util/sleep.ts";
import { cleanLine } from "../../util/text.ts";
import { engineWordsOf, errorCodeOf, timeToFirstTokenMs } from "../../proxy/record/record-facts.ts";

type RequestLogFormat = "text" | "logfmt" | "json";

export interface RequestLogOptions extends Partial<typeof DEFAULTS> {
  format: RequestLogFormat;
  /**
   * Takes whole lines. Where it returns a promise, nothing more is written until that settles, so
   * that a slow reader cannot fill the memory.
   */
  write: (lines: string) => void | Promise<void>;
  /** Told once when the sink begins to fail. */
  log: Log;
}

const DEFAULTS = {
  /** How long a line waits for others. */
  flushMs: 100,
  /** How much makes a batch that does not wait, in characters. */
  flushChars: 64 * 1024,
  /** How much may wait for a slow sink, in characters; further lines are dropped and counted. */
  maxBufferedChars: 4 * 1024 * 1024,
  /** How long the end waits for a slow sink. */
  stopTimeoutMs: 1000,
};

export function createRequestLog(options: RequestLogOptions) {
  const { format, write, log, flushMs, flushChars, maxBufferedChars, stopTimeoutMs } = {
    ...DEFAULTS,
    ...options,
  };
  let lines: string[] = [];
  let chars = 0;
  let dropped = 0;
  let failing = false;
  let stopped = false;
  let timer: ReturnType<typeof setTimeout> | undefined;
  /** The sink is busy until this settles. */
  let writing: Promise<void> | null = null;

  /** False when the sink has failed: the batch is lost, and counted with the next one. */
  const writeBatch = async () => {
    const lost = dropped + lines.length;
    const text = lines.join("") + (dropped > 0 ? droppedLine(format, dropped) : "");
    lines = [];
    chars = 0;
    dropped = 0;
    try {
      await write(text);
      failing = false;
      return true;
    } catch (error) {
      if (!failing) log.warn("cannot write the request log", { error: errorText(error) });
      failing = true;
      dropped += lost;
      return false;
    }
  };
  const flush = async () => {
    let works = true;
    while (works && (lines.length > 0 || dropped > 0)) works = await writeBatch();
    // In the same turn as the last check: a line that comes now starts the next one.
    writing = null;
    if (lines.length > 0 && !stopped) timer ??= setTimeout(startFlush, flushMs);
  };
  const startFlush = () => {
    clearTimeout(timer);
    timer = undefined;
    if (lines.length > 0 || dropped > 0) writing ??= flush();
  };
  return {
    /** Never throws and never waits. */
    onRecord(record: RequestRecord) {
      if (stopped) return;
      const line = lineOf(record, format);
      if (chars + line.length > maxBufferedChars) {
        dropped += 1;
        return;
      }
      lines.push(line);
      chars += line.length;
      if (writing) return;
      if (chars >= flushChars) startFlush();
      else timer ??= setTimeout(startFlush, flushMs);
    },
    async [Symbol.asyncDispose]() {
      stopped = true;
      startFlush();
      const enough = new AbortController();
      await Promise.race([writing, sleep(stopTimeoutMs, enough.signal)]);
      enough.abort();
    },
  };
}

const MAX_BODY_CHARS = 16 * 1024;

type Value = string | number | boolean | null;
type Fields = Record<string, Value>;

const SCHEMA = "llmnode.request/1";

function lineOf(record: RequestRecord, format: RequestLogFormat): string {
  const at = timeOf(record.startedAt + record.durationMs);
  const fields = fieldsOf(record);
  if (format !== "text") return parsable(format, { at, level: "info", message: "request", fields });
  const { status, method, route, ...rest } = fields;
  return `${at.slice(11, 19)} ${status} ${method} ${route}${pairs(rest, "  ")}\n`;
}

function droppedLine(format: RequestLogFormat, dropped: number): string {
  const at = new Date().toISOString();
  const message = "request log lines dropped: they could not be written in time";
  if (format !== "text")
    return parsable(format, { at, level: "warn", message, fields: { dropped } });
  return `${at.slice(11, 19)} warn: ${message}  dropped=${dropped}\n`;
}

function parsable(
  format: "json" | "logfmt",
  { at, level, message, fields }: { at: string; level: string; message: string; fields: Fields },
): string {
  return format === "json"
    ? `${JSON.stringify({ schema: SCHEMA, time: at, level, message, ...fields })}\n`
    : `time=${at} level=${level} msg=${quoted(message)}${pairs(fields, " ")}\n`;
}

/** Null is what is not known; numbers are rounded to what a person reads. */
function fieldsOf(record: RequestRecord): Fields {
  const { usage, attempts, usageEstimated } = record;
  const ttftMs = timeToFirstTokenMs(record);
  const words = engineWordsOf(record);
  return {
    request_id: clean(record.id),
    trace_id: record.trace?.traceId ?? null,
    method: record.method,
    route: record.route,
    status: record.status,
    model: record.model === null ? null : clean(record.model),
    stream: record.stream,
    worker: attempts.at(-1)?.worker ?? null,
    attempts: attempts.length,
    resumed: record.resume === "resumed",
    queue_ms: rounded(record.queueMs),
    ttft_ms: ttftMs === null ? null : rounded(ttftMs),
    duration_ms: rounded(record.durationMs),
    input_tokens: usage?.input ?? null,
    cached_input_tokens: usage?.cachedInput ?? null,
    output_tokens: usage?.output ?? null,
    output_tokens_estimated: usage === null ? null : usageEstimated,
    finish_reason: record.finishReason === null ? null : clean(record.finishReason),
    bytes_in: record.bytesIn,
    bytes_out: record.bytesOut,
    client_address: record.clientAddress === "" ? null : record.clientAddress,
    key_id: record.key?.id ?? null,
    error: errorCodeOf(record),
    engine_message: words === null ? null : clean(words),
    ...(record.bodies && {
      request_body: cleanLine(record.bodies.request, MAX_BODY_CHARS),
      answer_body: cleanLine(record.bodies.answer, MAX_BODY_CHARS),
    }),
  };
}

/** What is unknown is left out, and so is what is false. */
function pairs(fields: Fields, gap: string): string {
  let text = "";
  for (const key in fields) {
    const value = fields[key];
    if (value === null || value === false || value === undefined) continue;
    text += `${gap}${key}=${typeof value === "string" ? quoted(value) : value}`;
  }
  return text;
}

const PLAIN = /^[^\s"=]+$/;

function quoted(text: string): string {
  return PLAIN.test(text) ? text : JSON.stringify(text);
}

/** The second of the last line, as it is written, and as a number. */
let second = { at: Number.NaN, text: "" };

/** ISO 8601 with milliseconds; most lines have their second from the one before. */
function timeOf(ms: number): string {
  const at = Math.floor(ms / 1000);
  if (second.at !== at) second = { at, text: new Date(at * 1000).toISOString().slice(0, 20) };
  return `${second.text}${String(Math.floor(ms) - at * 1000).padStart(3, "0")}Z`;
}

function clean(text: string): string {
  return cleanLine(text, 300);
}

/** To a tenth of a millisecond. */
function rounded(ms: number): number {
  return Math.round(ms * 10) / 10;
}
