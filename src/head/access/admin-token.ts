/** The head's admin token: made at first start, kept where its own user's commands find it. */

import { timingSafeEqual } from "node:crypto";
import path from "node:path";
import {
  ADMIN_TOKEN_FILE,
  isAdminToken,
  newAdminToken,
  readIfThere,
} from "../../protocol/head-files.ts";
import { LlmnodeError, messageOf } from "../../protocol/errors.ts";
import { digest } from "../../util/digest.ts";
import { writeSecretFile } from "../../util/secret-file.ts";

/** Whether a text is the admin token; takes the same time for any. */
export type AdminTokenCheck = (text: string) => boolean;

/** Reads it, or makes one where there is none. Throws `data_dir_unusable`. */
export function openAdminToken(dataDir: string): AdminTokenCheck {
  const file = path.join(dataDir, ADMIN_TOKEN_FILE);
  let token = read(file);
  if (token === null) {
    token = newAdminToken();
    try {
      writeSecretFile(file, `${token}\n`);
    } catch (error) {
      throw unusable(`cannot keep the admin token in ${file}: ${messageOf(error)}`, error);
    }
  }
  const hash = digest(token);
  return (text) => timingSafeEqual(hash, digest(text));
}

function read(file: string): string | null {
  let text: string | null;
  try {
    text = readIfThere(file)?.trim() ?? null;
  } catch (error) {
    throw unusable(`cannot read the admin token in ${file}: ${messageOf(error)}`, error);
  }
  if (text === null || isAdminToken(text)) return text;
  throw unusable(`there is no admin token in ${file}`);
}

function unusable(message: string, cause?: unknown): LlmnodeError {
  return new LlmnodeError("data_dir_unusable", message, {
    hints: ["remove the file: the head makes another at its next start"],
    cause,
  });
}
