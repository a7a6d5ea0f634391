/** Reads the small text files that a command line names. */

import { usage } from "./messages.ts";
import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { LlmnodeError, messageOf, systemCode } from "../../protocol/errors.ts";
import { cleanLine } from "../../util/text.ts";

export interface TextFileOptions {
  /** What messages call it, such as `--env-file secrets.env`. */
  named: string;
  /** Refuses pipes, which can be read once only. */
  isReadTwice?: boolean;
  /** Default 1 MiB. */
  maxBytes?: number;
}

/** Its text, without a byte order mark. Throws `usage` for what is no readable text file. */
export function readTextFile(path: string, options: TextFileOptions): string {
  const maxBytes = options.maxBytes ?? 1024 * 1024;
  const wrong = (reason: string) => usage(`${options.named} ${reason}`);
  const bytes = Buffer.alloc(maxBytes + 1);
  let length = 0;
  try {
    const file = openSync(path, "r");
    try {
      const info = fstatSync(file);
      if (info.isDirectory()) throw wrong("is a folder");
      if (options.isReadTwice === true && !info.isFile()) throw wrong("is not a regular file");
      for (let count = -1; count !== 0; length += count) {
        count = readSync(file, bytes, length, bytes.length - length, null);
      }
    } finally {
      closeSync(file);
    }
  } catch (error) {
    if (error instanceof LlmnodeError) throw error;
    throw wrong(`cannot be read: ${explain(error)}`);
  }
  if (length > maxBytes) throw wrong(`is larger than ${maxBytes} bytes`);
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes.subarray(0, length));
  } catch {
    throw wrong("is not UTF-8 text");
  }
}

function explain(error: unknown): string {
  const code = systemCode(error);
  if (code === "ENOENT") return "there is no such file";
  if (code === "EACCES") return "permission denied";
  return cleanLine(messageOf(error), 200);
}
