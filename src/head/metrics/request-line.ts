/** One line for a finished request, in each of the formats; prompts only where the record has them. */

import { engineWordsOf, errorCodeOf, timeToFirstTokenMs } from "../../proxy/record/record-facts.ts";
import type { RequestRecord } from "../../proxy/record/record.ts";
import { cleanLine } from "../../util/text.ts";

export type RequestLogFormat = "text" | "logfmt" | "json";

export interface LineWriter {
  request(record: RequestRecord): string;
  /** Tells of lines that are lost. */
  dropped(count: number): string;
}

const DROPPED = "request log lines dropped: they could not be written in time";

export function createLineWriter(format: RequestLogFormat): LineWriter {
  const timeOf = createClock();
  const now = () => timeOf(Date.now());
  const endOf = (record: RequestRecord) => timeOf(record.startedAt + record.durationMs);
  if (format === "json") {
    return {
      request: (record) => jsonLine(fieldsOf(record), [endOf(record), "info", "request"]),
      dropped: (dropped) => jsonLine({ dropped }, [now(), "warn", DROPPED]),
    };
  }
  if (format === "logfmt") {
    return {
      request: (record) =>
        `time=${endOf(record)} level=info msg=request${pairs(fieldsOf(record), " ")}\n`,
      dropped: (count) => `time=${now()} level=warn msg="${DROPPED}" dropped=${count}\n`,
    };
  }
  return {
    request(record) {
      const { status, method, route } = record;
      const rest = pairs(fieldsOf(record), "  ", BEFORE_THE_REST);
      return `${timeOfDay(endOf(record))} ${status} ${method} ${route}${rest}\n`;
    },
    dropped: (count) => `${timeOfDay(now())} warn: ${DROPPED}  dropped=${count}\n`,
  };
}

const SCHEMA = "llmnode.request/1";
const MAX_BODY_CHARS = 16 * 1024;

type Value = string | number | boolean | null;
type Fields = Record<string, Value>;

/** Null is what is not known; numbers are rounded to what a person reads. */
function fieldsOf(record: RequestRecord): Fields {
  const { usage, attempts, usageEstimated, bodies } = record;
  const fields: Fields = {
    request_id: clean(record.id),
    trace_id: record.trace?.traceId ?? null,
    method: record.method,
    route: record.route,
    status: record.status,
    model: clean(record.model),
    stream: record.stream,
    worker: attempts.at(-1)?.worker ?? null,
    attempts: attempts.length,
    resumed: record.resume === "resumed",
    queue_ms: rounded(record.queueMs),
    ttft_ms: rounded(timeToFirstTokenMs(record)),
    duration_ms: rounded(record.durationMs),
    input_tokens: usage?.input ?? null,
    cached_input_tokens: usage?.cachedInput ?? null,
    output_tokens: usage?.output ?? null,
    output_tokens_estimated: usage && usageEstimated,
    finish_reason: clean(record.finishReason),
    bytes_in: record.bytesIn,
    bytes_out: record.bytesOut,
    client_address: record.clientAddress === "" ? null : record.clientAddress,
    key_id: record.key?.id ?? null,
    error: errorCodeOf(record),
    engine_message: clean(engineWordsOf(record)),
  };
  if (bodies === null) return fields;
  fields["request_body"] = cleanLine(bodies.request, MAX_BODY_CHARS);
  fields["answer_body"] = cleanLine(bodies.answer, MAX_BODY_CHARS);
  return fields;
}

function jsonLine(fields: Fields, [time, level, message]: [string, string, string]): string {
  // Put before it as text: to put it into the object takes longer.
  const start = `{"schema":"${SCHEMA}","time":"${time}","level":"${level}","message":"${message}",`;
  return `${start}${JSON.stringify(fields).slice(1)}\n`;
}

/** What stands at the start of a line of text, by itself. */
const BEFORE_THE_REST: ReadonlySet<string> = new Set(["status", "method", "route"]);

/** What is unknown is left out, and so is what is false. */
function pairs(fields: Fields, gap: string, without?: ReadonlySet<string>): string {
  let text = "";
  for (const key in fields) {
    const value = fields[key];
    if (value === null || value === false || value === undefined || without?.has(key)) continue;
    text += `${gap}${key}=${typeof value === "string" ? quoted(value) : value}`;
  }
  return text;
}

const PLAIN = /^[^\s"=]+$/;

function quoted(text: string): string {
  return PLAIN.test(text) ? text : JSON.stringify(text);
}

/** Tells the time by ISO 8601 with milliseconds; most lines have their second from the one before. */
function createClock(): (ms: number) => string {
  let second = Number.NaN;
  let text = "";
  return (ms) => {
    const at = Math.floor(ms / 1000);
    if (at !== second) {
      text = new Date(at * 1000).toISOString().slice(0, 20);
      second = at;
    }
    return `${text}${String(Math.floor(ms) - at * 1000).padStart(3, "0")}Z`;
  };
}

function timeOfDay(time: string): string {
  return time.slice(11, 19);
}

function clean(text: string | null): string | null {
  return text === null ? null : cleanLine(text, 300);
}

/** To a tenth of a millisecond. */
function rounded(ms: number | null): number | null {
  return ms === null ? null : Math.round(ms * 10) / 10;
}
