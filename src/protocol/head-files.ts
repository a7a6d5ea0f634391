/** The forms of a head's tokens, and what it leaves in its data directory for those beside it. */

import { X509Certificate } from "node:crypto";
import { readFileSync, rmSync } from "node:fs";
import path from "node:path";
import { systemCode } from "./errors.ts";
import { isRecord } from "../util/json.ts";
import { writeSecretFile } from "../util/secret-file.ts";

/** Where below the data directory the head keeps its first join token, for workers beside it. */
export const JOIN_TOKEN_FILE = "head/join-token";

export interface JoinToken {
  /** What the head knows by its hash. */
  secret: string;
  /** SHA-256 of the head's public key (SubjectPublicKeyInfo), base64url: who may be told. */
  fingerprint: string;
}

/** 24 random bytes in hex: no sign in it that a shell or an option parser could mistake. */
export function newSecret(): string {
  return Buffer.from(crypto.getRandomValues(new Uint8Array(24))).toString("hex");
}

/** `<secret>.<fingerprint>`. */
export function formatJoinToken({ secret, fingerprint }: JoinToken): string {
  return `${secret}.${fingerprint}`;
}

/** Null for text that is no join token, such as one that was cut while copying. */
export function parseJoinToken(text: string): JoinToken | null {
  const match = /^([0-9a-f]{48})\.([A-Za-z0-9_-]{43})$/.exec(text.trim());
  return match ? { secret: match[1] ?? "", fingerprint: match[2] ?? "" } : null;
}

/** The text of a file; null where there is none. Throws other system errors. */
export function readIfThere(file: string): string | null {
  try {
    return readFileSync(file, "utf8");
  } catch (error) {
    if (systemCode(error) === "ENOENT") return null;
    throw error;
  }
}

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

/** Below the data directory; there while a head serves its clients by TLS. */
const FRONT_NOTE_FILE = "head/clients.json";

export interface FrontNote {
  /** Where a process on this machine reaches the head: an https origin. */
  url: string;
  /** The certificate that it shows, with those that follow it, as PEM. */
  certificate: string;
}

/** Null takes an earlier note back. Throws system errors. */
export function writeFrontNote(dataDir: string, note: FrontNote | null): void {
  const file = path.join(dataDir, FRONT_NOTE_FILE);
  if (note === null) rmSync(file, { force: true });
  else writeSecretFile(file, `${JSON.stringify(note)}\n`);
}

/** Null where there is none, or none that this user may read. Never throws. */
export function readFrontNote(dataDir: string): FrontNote | null {
  try {
    return noteOf(JSON.parse(readFileSync(path.join(dataDir, FRONT_NOTE_FILE), "utf8")));
  } catch {
    // Without a note the head is trusted as any other https server is.
    return null;
  }
}

/** Throws for a certificate that is none. */
function noteOf(note: unknown): FrontNote | null {
  if (!isRecord(note)) return null;
  if (!("url" in note) || !("certificate" in note)) return null;
  const { url, certificate } = note;
  if (typeof url !== "string" || typeof certificate !== "string") return null;
  new X509Certificate(certificate);
  return URL.parse(url)?.protocol === "https:" ? { url, certificate } : null;
}
