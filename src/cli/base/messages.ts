/** How a failed command says so: one `error:` line and at most three hints, or the same as JSON. */

import { LlmnodeError } from "../../protocol/errors.ts";
import { cleanLine } from "../../util/text.ts";
import { isRetryable } from "./exit-codes.ts";

const MAX_HINTS = 3;

export interface MessageStyle {
  json: boolean;
  color: boolean;
  /** Adds the stack, and those of its causes. */
  debug: boolean;
}

/** The text for stderr, with its newline. Anything but an LlmnodeError is a bug and is told as one. */
export function formatError(error: unknown, style: MessageStyle): string {
  const known = toLlmnodeError(error);
  const message = cleanLine(known.message, 2000);
  const hints = known.hints.slice(0, MAX_HINTS).map((hint) => cleanLine(hint, 500));
  if (style.json) {
    const body = {
      code: known.code,
      message,
      hint: hints.length === 0 ? null : hints.join("\n"),
      retryable: isRetryable(known.code),
      ...(style.debug ? { stack: stackOf(error) } : {}),
    };
    return `${JSON.stringify({ error: body })}\n`;
  }
  const label = style.color ? "\u001b[31merror:\u001b[0m" : "error:";
  const lines = [`${label} ${message}`, ...hints.map((hint) => `  ${hint}`)];
  if (style.debug) lines.push(stackOf(error));
  return `${lines.join("\n")}\n`;
}

/** An expected failure as it is; anything else as `internal`. */
export function toLlmnodeError(error: unknown): LlmnodeError {
  if (error instanceof LlmnodeError) return error;
  const text = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  return new LlmnodeError("internal", `this is a bug in llmnode: ${text}`, {
    hints: ["the same command with --debug shows where it happened"],
    cause: error,
  });
}

function stackOf(error: unknown): string {
  const parts: string[] = [];
  let current: unknown = error;
  // Causes can form a ring; five levels are more than anyone reads.
  for (let depth = 0; depth < 5 && current instanceof Error; depth += 1) {
    parts.push(`${depth === 0 ? "" : "caused by "}${current.stack ?? current.message}`);
    current = current.cause;
  }
  return parts
    .join("\n")
    .split("\n")
    .map((line) => cleanLine(line, 500))
    .join("\n");
}

/** What was typed, or stands in a variable or file, cannot be taken: exit code 2. */
export function usage(message: string, ...hints: (string | undefined)[]): LlmnodeError {
  return new LlmnodeError("usage", message, { hints: hints.filter((hint) => hint !== undefined) });
}
