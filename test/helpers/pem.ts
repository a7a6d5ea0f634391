/** Certificates and keys in files, for tests of TLS. */

import "reflect-metadata";
import { writeFileSync } from "node:fs";
import path from "node:path";
import {
  BasicConstraintsExtension,
  PemConverter,
  SubjectAlternativeNameExtension,
  type X509Certificate,
  X509CertificateGenerator,
} from "@peculiar/x509";

const SIGNING = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
const DAY_MS = 24 * 3_600_000;

export interface Authority {
  certificate: X509Certificate;
  key: CryptoKey;
}

export interface TestPair {
  cert: string;
  key: string;
  /** Writes both into a folder; the paths of the files. */
  into(dir: string, name?: string): { cert: string; key: string };
  /** Of a pair that may sign others. */
  authority: Authority;
}

/** A P-256 pair; self-signed without an issuer. Default: for localhost and 127.0.0.1, 30 days. */
export async function testPair(
  options: {
    name?: string;
    names?: string[];
    notBefore?: Date;
    notAfter?: Date;
    issuer?: Authority;
  } = {},
): Promise<TestPair> {
  const keys = await crypto.subtle.generateKey(SIGNING, true, ["sign", "verify"]);
  const names = options.names ?? ["localhost"];
  const certificate = await X509CertificateGenerator.create({
    subject: `CN=${options.name ?? "test"}`,
    issuer: options.issuer?.certificate.subject ?? `CN=${options.name ?? "test"}`,
    serialNumber: crypto.randomUUID().replaceAll("-", "").replace(/^./, "1"),
    notBefore: options.notBefore ?? new Date(Date.now() - DAY_MS),
    notAfter: options.notAfter ?? new Date(Date.now() + 30 * DAY_MS),
    signingAlgorithm: SIGNING,
    publicKey: keys.publicKey,
    signingKey: options.issuer?.key ?? keys.privateKey,
    extensions: [
      new BasicConstraintsExtension(options.issuer === undefined),
      new SubjectAlternativeNameExtension([
        ...names.map((value) => ({ type: "dns" as const, value })),
        ...(options.names === undefined ? [{ type: "ip" as const, value: "127.0.0.1" }] : []),
      ]),
    ],
  });
  const secret = await crypto.subtle.exportKey("pkcs8", keys.privateKey);
  const cert = `${certificate.toString("pem")}\n`;
  const key = `${PemConverter.encode(secret, "PRIVATE KEY")}\n`;
  return {
    cert,
    key,
    authority: { certificate, key: keys.privateKey },
    into(dir, name = "clients") {
      const files = {
        cert: path.join(dir, `${name}.pem`),
        key: path.join(dir, `${name}.key`),
      };
      writeFileSync(files.cert, cert);
      writeFileSync(files.key, key);
      return files;
    },
  };
}
