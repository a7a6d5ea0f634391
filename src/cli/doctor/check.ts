/** One line of `llmnode doctor`: what was looked at, how it is, and the next step. */

import { messageOf, LlmnodeError } from "../../protocol/errors.ts";
import { cleanLine } from "../../util/text.ts";

export type CheckStatus = "ok" | "warning" | "failed";

export interface Check {
  name: string;
  status: CheckStatus;
  detail: string;
  /** What to do next; null when there is nothing to do. */
  hint: string | null;
}

export function ok(name: string, detail: string): Check {
  return { name, status: "ok", detail: clean(detail), hint: null };
}

export function warning(name: string, detail: string, hint: string): Check {
  return { name, status: "warning", detail: clean(detail), hint: clean(hint) };
}

export function failed(name: string, detail: string, hint: string): Check {
  return { name, status: "failed", detail: clean(detail), hint: clean(hint) };
}

/** What could not be looked at is no success, and no fault of its own. */
export function notChecked(name: string, why: string, hint: string): Check {
  return warning(name, `not checked: ${why}`, hint);
}

/** `hint` is for errors that bring none of their own. */
export function failedBy(name: string, error: unknown, hint: string): Check {
  const own = error instanceof LlmnodeError ? error.hints.join("; ") : "";
  return failed(name, messageOf(error), own || hint);
}

/** The report for people: a line per check, the next step below it, a summary at the end. */
export function reportLines(checks: readonly Check[]): string[] {
  const width = Math.max(0, ...checks.map(({ name }) => name.length));
  const lines = checks.flatMap(({ name, status, detail, hint }) => {
    const word = status === "failed" ? "FAILED" : status;
    const line = `${word.padEnd(7)}  ${name.padEnd(width)}  ${detail}`;
    return hint === null ? [line] : [line, `${" ".repeat(width + 11)}next: ${hint}`];
  });
  return [...lines, "", summary(checks)];
}

export function reportJson(checks: readonly Check[]): string {
  return JSON.stringify({ schema: "llmnode.doctor/1", checks }, null, 2);
}

export function isHealthy(checks: readonly Check[]): boolean {
  return checks.every(({ status }) => status !== "failed");
}

function summary(checks: readonly Check[]): string {
  const number = (wanted: CheckStatus) => checks.filter(({ status }) => status === wanted).length;
  const warnings = number("warning");
  return `${number("ok")} ok, ${warnings} warning${warnings === 1 ? "" : "s"}, ${number("failed")} failed`;
}

function clean(text: string): string {
  return cleanLine(text, 500);
}
