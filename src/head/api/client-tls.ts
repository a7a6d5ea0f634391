/** The certificate and the key for clients: read from their files, and checked before they are used. */

import { createPrivateKey, type KeyObject, X509Certificate } from "node:crypto";
import { readFile, stat } from "node:fs/promises";
import { LlmnodeError, messageOf, systemCode } from "../../protocol/errors.ts";
import { readCertificate } from "../../protocol/pin.ts";
import { cleanLine } from "../../util/text.ts";

/** Paths of PEM files; both may be the same file. */
export interface TlsFiles {
  /** The head's own certificate first, then those that lead to its authority. */
  cert: string;
  key: string;
}

export interface TlsPair {
  cert: string;
  key: string;
  notAfter: Date;
  /** The first DNS name that the certificate is for, wildcards left out. */
  name: string | null;
}

/** Far more than a chain of certificates has. */
const MAX_FILE_BYTES = 1024 * 1024;

/**
 * `now` is in milliseconds since 1970. Throws `usage`, in one line, for files that cannot be read,
 * hold something else, do not belong together, or a certificate that does not hold now.
 */
export async function readTlsPair(files: TlsFiles, now: number): Promise<TlsPair> {
  const cert = await readPem(files.cert, "--tls-cert");
  const key = await readPem(files.key, "--tls-key");
  const at = cleanLine(files.cert, 200);
  const { leaf, notBefore, notAfter } = readLeaf(cert, at);
  const secret = readKey(key, cleanLine(files.key, 200));
  if (!leaf.checkPrivateKey(secret)) {
    const chain = count(cert) > 1 ? "; the head's own certificate must come first in its file" : "";
    throw unusable(`${at} and ${cleanLine(files.key, 200)} do not belong together${chain}`);
  }
  if (now > notAfter.getTime()) {
    throw unusable(
      `the certificate in ${at} has expired: it was valid until ${notAfter.toISOString()}`,
    );
  }
  if (now < notBefore.getTime()) {
    throw unusable(
      `the certificate in ${at} is not valid yet: from ${notBefore.toISOString()} on (this machine's clock says ${new Date(now).toISOString()})`,
    );
  }
  const name = /DNS:([\w.-]+)(?:,|$)/.exec(leaf.subjectAltName ?? "")?.[1] ?? null;
  return { cert, key, notAfter, name };
}

/** Changes when a file is written or replaced; also says when one is away. Never throws. */
export async function stampOf(files: TlsFiles): Promise<string> {
  const stamps = [files.cert, files.key].map(async (file) => {
    try {
      const { mtimeMs, ctimeMs, size, ino } = await stat(file);
      return [mtimeMs, ctimeMs, size, ino].join(":");
    } catch (error) {
      return systemCode(error) ?? messageOf(error);
    }
  });
  return (await Promise.all(stamps)).join(" ");
}

async function readPem(file: string, flag: string): Promise<string> {
  const shown = `${flag} ${cleanLine(file, 200)}`;
  let text: string;
  try {
    // A pipe or a device has no end to wait for.
    const { size } = await stat(file);
    if (size > MAX_FILE_BYTES) throw unusable(`${shown} is too large to be a PEM file`);
    text = await readFile(file, "utf8");
  } catch (error) {
    if (error instanceof LlmnodeError) throw error;
    throw unusable(`${shown} cannot be read: ${reasonOf(error)}`, error);
  }
  if (text.includes("-----BEGIN ")) return text;
  throw unusable(`${shown} is no PEM file: it has no "-----BEGIN ..." line`);
}

function readLeaf(pem: string, at: string) {
  if (count(pem) === 0) throw unusable(`--tls-cert ${at} has no certificate in it`);
  try {
    const { notBefore, notAfter } = readCertificate(pem);
    return { leaf: new X509Certificate(pem), notBefore, notAfter };
  } catch (error) {
    throw unusable(`the certificate in ${at} cannot be read: ${messageOf(error)}`, error);
  }
}

function readKey(pem: string, at: string): KeyObject {
  if (/BEGIN ENCRYPTED PRIVATE KEY|Proc-Type: 4,ENCRYPTED/.test(pem)) {
    throw unusable(
      `the key in ${at} is encrypted, and the head cannot ask for its passphrase: openssl pkey -in ${at} -out plain.key`,
    );
  }
  if (!/BEGIN (?:[A-Z]+ )?PRIVATE KEY/.test(pem)) {
    throw unusable(`--tls-key ${at} has no private key in it`);
  }
  try {
    return createPrivateKey(pem);
  } catch (error) {
    throw unusable(`the key in ${at} cannot be read: ${messageOf(error)}`, error);
  }
}

function count(pem: string): number {
  return pem.split("-----BEGIN CERTIFICATE-----").length - 1;
}

function reasonOf(error: unknown): string {
  switch (systemCode(error)) {
    case "ENOENT":
      return "there is no such file";
    case "EACCES":
    case "EPERM":
      return "not allowed";
    case "EISDIR":
      return "it is a folder";
    default:
      return messageOf(error);
  }
}

function unusable(message: string, cause?: unknown): LlmnodeError {
  return new LlmnodeError("usage", cleanLine(message, 600), { cause });
}
