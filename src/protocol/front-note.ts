/** Tells commands on the head's own machine how its port for clients is encrypted. */

import { X509Certificate } from "node:crypto";
import { readFileSync, rmSync } from "node:fs";
import path from "node:path";
import { writeSecretFile } from "../util/secret-file.ts";
import { isRecord } from "../util/json.ts";

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
