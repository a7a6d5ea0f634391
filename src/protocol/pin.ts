/** Reads a head's certificate before anything is sent to it, and trusts only a pinned key. */

import { createHash, X509Certificate } from "node:crypto";
import { connect } from "node:tls";
import { formatHostPort, type HostPort } from "../util/host-port.ts";
import { LlmnodeError, messageOf, systemCode } from "./errors.ts";

/** The one name in every head's certificate; addresses and DNS names mean nothing to the link. */
export const HEAD_TLS_NAME = "llmnode-head";

export interface HeadCertificate {
  pem: string;
  /** SHA-256 of its key's SubjectPublicKeyInfo, base64url. */
  fingerprint: string;
}

/** Takes a certificate in PEM or DER. Throws for anything else. */
export function readCertificate(bytes: string | Buffer): HeadCertificate & {
  notBefore: Date;
  notAfter: Date;
} {
  const certificate = new X509Certificate(bytes);
  const key = certificate.publicKey.export({ type: "spki", format: "der" });
  return {
    pem: certificate.toString(),
    fingerprint: createHash("sha256").update(key).digest("base64url"),
    notBefore: new Date(certificate.validFrom),
    notAfter: new Date(certificate.validTo),
  };
}

export interface VerifyOptions {
  /** Where to connect instead, such as a relay to the head; messages speak of the head. */
  dialAt?: HostPort | undefined;
  /** Keys that are trusted. */
  fingerprints: readonly string[];
  timeoutMs: number;
  signal?: AbortSignal;
  now?: () => number;
}

/**
 * Connects once, sends nothing, and returns the certificate of a trusted key. Throws
 * `wrong_fingerprint`, `tls_mismatch` (it speaks, but not TLS), `clock_off`, `head_unreachable`.
 */
export async function verifyHead(head: HostPort, options: VerifyOptions): Promise<HeadCertificate> {
  const at = formatHostPort(head);
  const shown = readCertificate(await shownCertificate(head, options));
  if (!options.fingerprints.includes(shown.fingerprint)) {
    const wanted = options.fingerprints.map((one) => one.slice(0, 8)).join(" or ");
    throw new LlmnodeError(
      "wrong_fingerprint",
      `what answers at ${at} has another key than this worker may trust: ` +
        `it shows ${shown.fingerprint.slice(0, 8)}, not ${wanted}`,
      {
        hints: [
          "another head, or one with a new data directory? take its join token (on it: llmnode join-token show); otherwise somebody is in between",
        ],
      },
    );
  }
  const now = new Date((options.now ?? Date.now)());
  if (now < shown.notBefore || now > shown.notAfter) {
    throw new LlmnodeError(
      "clock_off",
      `this machine's clock says ${now.toISOString()}, and the head's certificate is valid from ` +
        `${shown.notBefore.toISOString()} to ${shown.notAfter.toISOString()}`,
      { hints: ["set this machine's clock, such as by: timedatectl set-ntp true"] },
    );
  }
  return { pem: shown.pem, fingerprint: shown.fingerprint };
}

/** Whether a TLS server is there; false also when nothing is. Never throws. */
export async function speaksTls(head: HostPort, timeoutMs: number): Promise<boolean> {
  return await shownCertificate(head, { timeoutMs }).then(
    () => true,
    () => false,
  );
}

function shownCertificate(
  head: HostPort,
  {
    timeoutMs,
    signal,
    dialAt = head,
  }: { timeoutMs: number; signal?: AbortSignal | undefined; dialAt?: HostPort | undefined },
): Promise<Buffer> {
  const { promise, resolve, reject } = Promise.withResolvers<Buffer>();
  const socket = connect({
    host: dialAt.host,
    port: dialAt.port,
    // Trust comes from the pinned key, not from an authority.
    rejectUnauthorized: false,
    servername: HEAD_TLS_NAME,
    ALPNProtocols: ["h2"],
  });
  const fail = (error: LlmnodeError) => {
    reject(error);
    socket.destroy();
  };
  const timer = setTimeout(() => fail(unreachable("no answer")), timeoutMs);
  const abort = () => fail(unreachable("given up"));
  signal?.addEventListener("abort", abort);
  socket.on("secureConnect", () => {
    const { raw } = socket.getPeerCertificate(true);
    if (raw instanceof Uint8Array) resolve(Buffer.from(raw));
    else reject(unreachable("it has no certificate"));
    socket.destroy();
  });
  socket.on("error", (error) => fail(failureOf(head, error)));
  socket.on("close", () => fail(unreachable("the connection broke")));
  if (signal?.aborted) abort();
  return promise.finally(() => {
    clearTimeout(timer);
    signal?.removeEventListener("abort", abort);
  });
}

function failureOf(head: HostPort, error: unknown): LlmnodeError {
  if (systemCode(error)?.startsWith("ERR_SSL_") === true) {
    return new LlmnodeError(
      "tls_mismatch",
      `what answers at ${formatHostPort(head)} does not speak TLS`,
      {
        hints: [
          "is it a head with --insecure? join --insecure, or start that head without it; is the port the one for workers?",
        ],
        cause: error,
      },
    );
  }
  return unreachable(plainReason(messageOf(error)));
}

function unreachable(reason: string): LlmnodeError {
  return new LlmnodeError("head_unreachable", reason);
}

/** The cause inside the wrapping of sockets and of grpc-js, such as "connection refused". */
export function plainReason(text: string): string {
  if (text.includes("ECONNREFUSED")) return "connection refused";
  if (
    text.includes("ENOTFOUND") ||
    text.includes("EAI_AGAIN") ||
    text.includes("Name resolution")
  ) {
    return "the name cannot be resolved";
  }
  if (text.includes("EHOSTUNREACH") || text.includes("ENETUNREACH")) return "no route to the host";
  if (text.includes("ETIMEDOUT")) return "no answer";
  const last = /Last error: (?:Error: )?(.+?)\.?(?: Resolution note:.*)?$/.exec(text);
  const inner = (last?.[1] ?? text).replace(/^\d+ [A-Z_]+: /, "");
  return inner === "" || inner === "null" ? "the connection broke" : inner;
}
