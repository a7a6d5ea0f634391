import { afterEach, beforeEach, expect, test } from "bun:test";
import { createPrivateKey } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { readTlsPair, stampOf, type TlsFiles } from "../../../src/head/api/client-tls.ts";
import { messageOf } from "../../../src/protocol/errors.ts";
import { testPair } from "../../helpers/pem.ts";
import { type TempDir, tempDir } from "../../helpers/temp.ts";

let dir: TempDir;
beforeEach(() => {
  dir = tempDir();
});
afterEach(() => dir[Symbol.dispose]());

const file = (name: string, text: string) => {
  const at = path.join(dir.path, name);
  writeFileSync(at, text);
  return at;
};
const failure = (files: TlsFiles, now = Date.now()) =>
  readTlsPair(files, now).then(
    () => "none",
    (error: unknown) => messageOf(error),
  );

test("a pair is read with its end and its first name that is no wildcard", async () => {
  const notAfter = new Date("2031-02-03T04:05:06Z");
  const pair = await testPair({ names: ["*.example.org", "llm.example.org"], notAfter });
  const files = pair.into(dir.path);
  expect(await readTlsPair(files, Date.now())).toEqual({
    cert: pair.cert,
    key: pair.key,
    notAfter,
    name: "llm.example.org",
  });
});

test("one file may hold both, and the authority's certificate may follow", async () => {
  const ca = await testPair({ name: "an authority" });
  const pair = await testPair({ issuer: ca.authority });
  const both = file("both.pem", `${pair.key}${pair.cert}${ca.cert}`);
  expect((await readTlsPair({ cert: both, key: both }, Date.now())).name).toBe("localhost");
});

test("keys in the older formats are read", async () => {
  const pair = await testPair();
  const files = pair.into(dir.path);
  const sec1 = createPrivateKey(pair.key).export({ type: "sec1", format: "pem" }).toString();
  expect(await failure({ ...files, key: file("sec1.key", sec1) })).toBe("none");
});

test("what cannot be used is said in one line", async () => {
  const pair = await testPair();
  const other = await testPair();
  const { cert, key } = pair.into(dir.path);
  const encrypted = createPrivateKey(pair.key)
    .export({ type: "pkcs8", format: "pem", cipher: "aes-256-cbc", passphrase: "x" })
    .toString();
  const folder = path.join(dir.path, "folder");
  mkdirSync(folder);
  const cases: [TlsFiles, RegExp][] = [
    [
      { cert: `${cert}x`, key },
      /^--tls-cert .*clients.pemx cannot be read: there is no such file$/,
    ],
    [{ cert: folder, key }, /^--tls-cert .*folder cannot be read: it is a folder$/],
    [{ cert, key: `${key}x` }, /^--tls-key .* cannot be read: there is no such file$/],
    [{ cert: file("text", "hello"), key }, /^--tls-cert .* is no PEM file/],
    [{ cert, key: file("der", "\u0000\u0001\u001b[31m") }, /^--tls-key .* is no PEM file/],
    [{ cert: key, key }, /^--tls-cert .* has no certificate in it$/],
    [{ cert, key: cert }, /^--tls-key .* has no private key in it$/],
    [{ cert, key: file("other.key", other.key) }, /do not belong together$/],
    [
      { cert: file("chain.pem", other.cert + pair.cert), key },
      /do not belong together; the head's own certificate must come first in its file$/,
    ],
    [
      { cert, key: file("secret.key", encrypted) },
      /^the key in .*secret.key is encrypted, and the head cannot ask for its passphrase: openssl pkey/,
    ],
    [
      { cert: file("cut.pem", pair.cert.slice(0, 200)), key },
      /^the certificate in .*cut.pem cannot be read/,
    ],
    [{ cert, key: file("cut.key", pair.key.slice(0, 80)) }, /^the key in .*cut.key cannot be read/],
    [{ cert: file("large.pem", "x".repeat(2_000_000)), key }, /is too large to be a PEM file$/],
  ];
  for (const [files, expected] of cases) {
    const told = await failure(files);
    expect(told).toMatch(expected);
    expect(told).not.toMatch(/[\n\u001b]/);
  }
});

test("a certificate that does not hold now is said with its dates", async () => {
  const pair = await testPair({
    notBefore: new Date("2030-01-01T00:00:00Z"),
    notAfter: new Date("2031-01-01T00:00:00Z"),
  });
  const files = pair.into(dir.path);
  expect(await failure(files, Date.parse("2032-01-01T00:00:00Z"))).toMatch(
    /has expired: it was valid until 2031-01-01T00:00:00.000Z$/,
  );
  expect(await failure(files, Date.parse("2029-01-01T00:00:00Z"))).toMatch(
    /is not valid yet: from 2030-01-01.* clock says 2029-01-01/,
  );
  expect(await failure(files, Date.parse("2030-06-01T00:00:00Z"))).toBe("none");
});

test("the stamp changes with either file, and with one that goes away", async () => {
  const pair = await testPair();
  const files = pair.into(dir.path);
  const first = await stampOf(files);
  expect(await stampOf(files)).toBe(first);
  writeFileSync(files.key, `${pair.key}\n`);
  const second = await stampOf(files);
  expect(second).not.toBe(first);
  expect(await stampOf({ ...files, cert: `${files.cert}x` })).toMatch(/^ENOENT /);
});
