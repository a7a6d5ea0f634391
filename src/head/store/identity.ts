/** The head's key and certificate: made at first start, kept in its folder, pinned by workers. */

import { createPrivateKey, X509Certificate } from "node:crypto";
import path from "node:path";
import { LlmnodeError, messageOf } from "../../protocol/errors.ts";
import { readIfThere } from "../../protocol/head-files.ts";
import { readCertificate } from "../../protocol/pin.ts";
import { writeSecretFile } from "../../util/secret-file.ts";

export interface HeadIdentity {
  /** SHA-256 of the public key's SubjectPublicKeyInfo, base64url: part of every join token. */
  readonly fingerprint: string;
  /** PEM, for a server that listens with this identity. */
  tlsFor(): { key: string; cert: string };
}

/** One file for both, so that there is never one without the other. */
export const IDENTITY_FILE = "identity.pem";

/**
 * Reads the identity in `dir`, or makes one; later starts need no certificate library. Throws
 * `data_dir_unusable`.
 */
export async function loadIdentity(dir: string): Promise<HeadIdentity> {
  const file = path.join(dir, IDENTITY_FILE);
  const kept = read(file);
  if (kept !== null) return identityOf(file, kept);
  const { makeCertificate } = await import("./certificate.ts");
  const { key, cert } = await makeCertificate();
  const pem = `${key.trim()}\n${cert.trim()}\n`;
  try {
    writeSecretFile(file, pem);
  } catch (error) {
    throw unusable(`cannot keep the head's key in ${file}: ${messageOf(error)}`, error);
  }
  return identityOf(file, pem);
}

function read(file: string): string | null {
  try {
    return readIfThere(file);
  } catch (error) {
    throw unusable(`cannot read the head's key in ${file}: ${messageOf(error)}`, error);
  }
}

function identityOf(file: string, pem: string): HeadIdentity {
  const key = /-----BEGIN PRIVATE KEY-----[\s\S]+?-----END PRIVATE KEY-----/.exec(pem)?.[0] ?? "";
  const cert = /-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----/.exec(pem)?.[0] ?? "";
  try {
    if (!new X509Certificate(cert).checkPrivateKey(createPrivateKey(key))) {
      throw new Error("its key and its certificate do not belong together");
    }
    const { fingerprint } = readCertificate(cert);
    return { fingerprint, tlsFor: () => ({ key, cert }) };
  } catch (error) {
    throw unusable(`the head's key in ${file} cannot be used: ${messageOf(error)}`, error);
  }
}

function unusable(message: string, cause: unknown): LlmnodeError {
  return new LlmnodeError("data_dir_unusable", message, {
    hints: [
      "put a copy back, or remove the file: every worker then needs a new join token",
      "or choose another folder: llmnode head --data-dir DIR",
    ],
    cause,
  });
}
