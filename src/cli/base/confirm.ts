/** Asks a person at a terminal a question that is answered by yes or no. */

import { createInterface } from "node:readline";
import type { Terminal } from "./terminal.ts";

/** Whether there is a person to ask. */
export function canAsk(terminal: Terminal): boolean {
  return process.stdin.isTTY === true && terminal.errIsTty;
}

/** Anything but `y` or `yes` is a no, and so is the end of the input. */
export async function confirm(terminal: Terminal, question: string): Promise<boolean> {
  terminal.err.write(`${question} [y/N] `);
  await terminal.err.flush();
  const lines = createInterface({ input: process.stdin });
  const answered = Promise.withResolvers<string>();
  lines.once("line", answered.resolve);
  lines.once("close", () => answered.resolve(""));
  const answer = await answered.promise;
  lines.close();
  process.stdin.pause();
  return /^y(es)?$/i.test(answer.trim());
}
