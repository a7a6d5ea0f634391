/** Log lines on stderr: short and coloured on a terminal, logfmt in a pipe, JSON on demand. */

import { cleanLine } from "./text.ts";

export type LogFormat = "auto" | "text" | "logfmt" | "json";
export type LogLevel = "debug" | "info" | "warn" | "error";
export type LogFields = Record<string, string | number | boolean | null | undefined>;

export interface Log {
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
}

export interface LogOptions {
  format?: LogFormat;
  level?: LogLevel;
  /** Takes one finished line with its newline. Default: stderr. */
  write?: (line: string) => void;
  /** Whether `write` ends on a terminal, for `format: "auto"`. Default: whether stderr does. */
  isTty?: boolean;
  color?: boolean;
}

const RANK: Record<LogLevel, number> = { debug: 0, info: 1, warn: 2, error: 3 };
const PAINT: Record<LogLevel, string> = { debug: "2", info: "32", warn: "33", error: "31" };

export function createLog(options: LogOptions = {}): Log {
  const isTty = options.isTty ?? process.stderr.isTTY === true;
  const asked = options.format ?? "auto";
  const format = asked === "auto" ? (isTty ? "text" : "logfmt") : asked;
  const color = options.color ?? (isTty && (process.env["NO_COLOR"] ?? "") === "");
  const lowest = RANK[options.level ?? "info"];
  const write = options.write ?? ((line) => void process.stderr.write(line));

  const emit = (level: LogLevel, message: string, fields: LogFields = {}) => {
    if (RANK[level] < lowest) return;
    const now = new Date().toISOString();
    const known = Object.entries(fields).filter(([, value]) => value !== undefined);
    const text = cleanLine(message, 4000);
    if (format === "json") {
      write(
        `${JSON.stringify({ time: now, level, message: text, ...Object.fromEntries(known) })}\n`,
      );
    } else if (format === "text") {
      const rest = known.map(([key, value]) => `  ${key}=${quoted(value)}`).join("");
      const mark = level === "info" ? "" : `${level}: `;
      const painted = color && mark ? `\u001b[${PAINT[level]}m${mark}\u001b[0m` : mark;
      write(`${now.slice(11, 19)} ${painted}${text}${rest}\n`);
    } else {
      const rest = known.map(([key, value]) => ` ${key}=${quoted(value)}`).join("");
      write(`time=${now} level=${level} msg=${quoted(text)}${rest}\n`);
    }
  };
  return {
    debug: (message, fields) => emit("debug", message, fields),
    info: (message, fields) => emit("info", message, fields),
    warn: (message, fields) => emit("warn", message, fields),
    error: (message, fields) => emit("error", message, fields),
  };
}

/** A log that drops everything, for callers that have nowhere to write. */
export const silentLog: Log = { debug() {}, info() {}, warn() {}, error() {} };

function quoted(value: string | number | boolean | null | undefined): string {
  if (typeof value !== "string") return String(value);
  const clean = cleanLine(value, 4000);
  return /^[^\s"=]+$/.test(clean) ? clean : JSON.stringify(clean);
}
