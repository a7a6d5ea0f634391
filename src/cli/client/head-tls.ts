/** What a command trusts when it talks to a head by https: never more than was configured. */

import { usage } from "../base/messages.ts";
import { X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import { getCACertificates } from "node:tls";
import { messageOf, systemCode } from "../../protocol/errors.ts";
import { type FrontNote, readFrontNote } from "../../protocol/head-files.ts";
import { isLoopback } from "../../util/host-port.ts";
import { cleanLine } from "../../util/text.ts";

/** The `tls` of `fetch`. `allowPartialTrustChain` is passed on to BoringSSL; the types lack it. */
export type HeadTls = BunFetchRequestInitTLS & { allowPartialTrustChain?: boolean };

export interface TrustOptions {
  /** A file with the only authorities to trust, PEM; null: those of the system. */
  ca: string | null;
  /** Where a head on this machine says which certificate it shows; null: nowhere. */
  dataDir: string | null;
}

/**
 * Null for plain http. The certificate of a head on this machine is trusted as it is, whatever name
 * it is for; any other head needs one from an authority, for its own name. Throws `usage` for a file
 * that has no certificate.
 */
export function trustFor(url: string, { ca, dataDir }: TrustOptions): HeadTls | null {
  if (!url.startsWith("https:")) return null;
  if (ca !== null) return { ca: readAuthorities(ca) };
  const note = localNote(url, dataDir);
  if (note) return pinnedTo(note.certificate);
  return { ca: [...new Set([...getCACertificates("default"), ...getCACertificates("system")])] };
}

/** Whether the head on this machine that listens there does so by TLS, as far as is known. */
export function isTlsHere(url: string, dataDir: string | null): boolean {
  return localNote(url.replace(/^http:/, "https:"), dataDir) !== null;
}

function localNote(url: string, dataDir: string | null): FrontNote | null {
  const note = dataDir === null ? null : readFrontNote(dataDir);
  const wanted = URL.parse(url);
  const shown = note === null ? null : URL.parse(note.url);
  if (!wanted || !shown || wanted.port !== shown.port) return null;
  return isLoopback(wanted.hostname) || wanted.hostname === shown.hostname ? note : null;
}

/** For this machine: what is compared is the certificate itself, not the name in it. */
function pinnedTo(pem: string): HeadTls {
  const { fingerprint256 } = new X509Certificate(pem);
  return {
    ca: pem,
    allowPartialTrustChain: true,
    checkServerIdentity: (_host, shown) =>
      shown.fingerprint256 === fingerprint256
        ? undefined
        : new Error("it shows another certificate than the head on this machine"),
  };
}

function readAuthorities(file: string): string {
  const shown = `--ca ${cleanLine(file, 200)}`;
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (error) {
    throw usage(`${shown} cannot be read: ${messageOf(error)}`);
  }
  try {
    new X509Certificate(text);
  } catch {
    throw usage(`${shown} has no certificate in PEM in it`);
  }
  return text;
}

/** What a failed TLS handshake was about, in words, with the next step; null for another failure. */
export function tlsFailure(error: unknown): { reason: string; hint: string } | null {
  const text = messageOf(error);
  switch (systemCode(error)) {
    case "DEPTH_ZERO_SELF_SIGNED_CERT":
    case "SELF_SIGNED_CERT_IN_CHAIN":
    case "UNABLE_TO_GET_ISSUER_CERT":
    case "UNABLE_TO_GET_ISSUER_CERT_LOCALLY":
    case "UNABLE_TO_VERIFY_LEAF_SIGNATURE":
      return {
        reason: "its certificate is not trusted by this machine",
        hint: "trust its authority:   llmnode --ca <file> ...   (or LLMNODE_CA=<file>)",
      };
    case "CERT_HAS_EXPIRED":
      return {
        reason: "its certificate has expired",
        hint: "renew it: the head reads --tls-cert and --tls-key again by itself",
      };
    case "CERT_NOT_YET_VALID":
      return {
        reason: "its certificate is not valid yet",
        hint: "is this machine's clock right?",
      };
    case "ERR_TLS_CERT_ALTNAME_INVALID":
      return {
        reason: "its certificate is for another name",
        hint: "call it by a name in its certificate:   llmnode --head https://<name>:<port> ...",
      };
    case "EPROTO":
      return { reason: "it does not speak TLS", hint: "without TLS?   llmnode --head http://..." };
    default:
      return text.includes("it shows another certificate")
        ? { reason: text, hint: "another program on that port, or a head that restarts just now?" }
        : null;
  }
}
