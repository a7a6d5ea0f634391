import { expect, test } from "bun:test";
import { createHash, X509Certificate } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import path from "node:path";
import { loadIdentity } from "../../../src/head/store/identity.ts";
import { runProcess } from "../../helpers/process.ts";
import { tempDir } from "../../helpers/temp.ts";

test("it is made once: a P-256 key under the head's fixed name, for a century, pinned by its key", async () => {
  using dir = tempDir();
  const first = await loadIdentity(dir.path);
  const { key, cert } = first.tlsFor();
  const certificate = new X509Certificate(cert);
  expect(certificate.subject).toBe("CN=llmnode-head");
  expect(certificate.subjectAltName).toBe("DNS:llmnode-head");
  expect(certificate.publicKey.asymmetricKeyDetails?.namedCurve).toBe("prime256v1");
  expect(new Date(certificate.validFrom).toISOString()).toBe("2000-01-01T00:00:00.000Z");
  expect(new Date(certificate.validTo).toISOString()).toBe("2099-12-31T23:59:59.000Z");
  expect(certificate.verify(certificate.publicKey)).toBe(true);
  const spki = certificate.publicKey.export({ type: "spki", format: "der" });
  expect(first.fingerprint).toBe(createHash("sha256").update(spki).digest("base64url"));
  expect(readdirSync(dir.path)).toEqual(["identity.pem"]);
  expect(statSync(path.join(dir.path, "identity.pem")).mode & 0o777).toBe(0o600);
  const again = await loadIdentity(dir.path);
  expect([again.fingerprint, again.tlsFor()]).toEqual([first.fingerprint, { key, cert }]);
  using other = tempDir();
  expect((await loadIdentity(other.path)).fingerprint).not.toBe(first.fingerprint);
});

test("a damaged file is refused and never written over", async () => {
  using dir = tempDir();
  using other = tempDir();
  const file = path.join(dir.path, "identity.pem");
  const mine = (await loadIdentity(dir.path)).tlsFor();
  const foreign = (await loadIdentity(other.path)).tlsFor();
  for (const text of [
    "",
    mine.key,
    mine.cert,
    `${mine.key}\n${foreign.cert}\n`,
    `${mine.key.slice(0, 80)}\n${mine.cert}`,
    `${mine.key}\n${mine.cert.replace(/[A-Z]{4}/, "AAAA")}`.slice(0, 400),
  ]) {
    writeFileSync(file, text);
    await expect(loadIdentity(dir.path)).rejects.toMatchObject({ code: "data_dir_unusable" });
    expect(readFileSync(file, "utf8")).toBe(text);
  }
});

test("a file that cannot be read or written says so", async () => {
  using dir = tempDir();
  mkdirSync(path.join(dir.path, "identity.pem"));
  await expect(loadIdentity(dir.path)).rejects.toThrow("cannot read the head's key in");
  await expect(loadIdentity(path.join(dir.path, "none"))).rejects.toThrow(
    "cannot keep the head's key in",
  );
});

test("later starts load no certificate library", async () => {
  using dir = tempDir();
  const source = path.resolve(import.meta.dir, "../../../src/head/store/identity.ts");
  const script = path.join(dir.path, "load.ts");
  // The library's decorators leave their mark on Reflect.
  writeFileSync(
    script,
    `import { loadIdentity } from ${JSON.stringify(source)};
     await loadIdentity(${JSON.stringify(dir.path)});
     console.log("getMetadata" in Reflect);`,
  );
  const run = () => runProcess([process.execPath, script]);
  expect((await run()).stdout).toBe("true\n");
  expect((await run()).stdout).toBe("false\n");
});
