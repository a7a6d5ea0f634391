/** What lets operators in: its form, where the head keeps it, and how commands beside it find it. */

import { readFileSync } from "node:fs";
import path from "node:path";

/** Below the data directory; mode 0600. */
export const ADMIN_TOKEN_FILE = "head/admin-token";
/** Who uses the data directory, in words: `pid 12, clients at http://..., operators at http://...`. */
const OWNER_FILE = "head/owner";

const PREFIX = "ln-admin-";
const FORM = /^ln-admin-[0-9a-f]{48}$/;

export function newAdminToken(): string {
  return `${PREFIX}${Buffer.from(crypto.getRandomValues(new Uint8Array(24))).toString("hex")}`;
}

/** Whether a text has the form of an admin token, of whichever head. */
export function isAdminToken(text: string): boolean {
  return FORM.test(text);
}

/** Where a head says that it listens for clients and for operators. */
export function ownerText({ url, adminUrl }: { url: string; adminUrl: string | null }): string {
  return adminUrl === null ? `clients at ${url}` : `clients at ${url}, operators at ${adminUrl}`;
}

export interface LocalAdmin {
  token: string;
  /** Where the head that knows it listens for clients; nobody but that head may see it. */
  url: string;
  /** And for operators, if that is elsewhere. */
  adminUrl: string | null;
}

/** That of the head that runs on this data directory; null where none does or this user may not. */
export function readLocalAdmin(dataDir: string): LocalAdmin | null {
  try {
    const owner = readFileSync(path.join(dataDir, OWNER_FILE), "utf8");
    const pid = Number(/^pid (\d+)\b/.exec(owner)?.[1]);
    // Whatever listens there now is not that head. Throws when there is no such process.
    if (!(pid > 0)) return null;
    process.kill(pid, 0);
    const url = /\bclients at (https?:\/\/[^\s,]+)/.exec(owner)?.[1];
    const adminUrl = /\boperators at (https?:\/\/[^\s,]+)/.exec(owner)?.[1] ?? null;
    const token = readFileSync(path.join(dataDir, ADMIN_TOKEN_FILE), "utf8").trim();
    return url !== undefined && isAdminToken(token) ? { token, url, adminUrl } : null;
  } catch {
    // Another user's head, or none: then a person has to say who asks.
    return null;
  }
}
