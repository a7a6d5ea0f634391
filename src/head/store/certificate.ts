/** Makes the head's certificate; loaded when there is none yet, for its libraries are large. */

// What the certificate library's decorators need must be there before it.
import "reflect-metadata";
import {
  PemConverter,
  SubjectAlternativeNameExtension,
  X509CertificateGenerator,
} from "@peculiar/x509";
import { HEAD_TLS_NAME } from "../../protocol/pin.ts";

/**
 * A new P-256 key and its self-signed certificate, as PEM. Workers trust the key itself, so that
 * the dates only have to hold for ever: nothing needs to be renewed.
 */
export async function makeCertificate(): Promise<{ key: string; cert: string }> {
  const signingAlgorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
  const keys = await crypto.subtle.generateKey(signingAlgorithm, true, ["sign", "verify"]);
  const certificate = await X509CertificateGenerator.createSelfSigned({
    name: `CN=${HEAD_TLS_NAME}`,
    serialNumber: Buffer.from(crypto.getRandomValues(new Uint8Array(8))).toString("hex"),
    notBefore: new Date("2000-01-01T00:00:00Z"),
    notAfter: new Date("2099-12-31T23:59:59Z"),
    signingAlgorithm,
    keys,
    extensions: [new SubjectAlternativeNameExtension([{ type: "dns", value: HEAD_TLS_NAME }])],
  });
  const key = await crypto.subtle.exportKey("pkcs8", keys.privateKey);
  return { key: PemConverter.encode(key, "PRIVATE KEY"), cert: certificate.toString("pem") };
}
