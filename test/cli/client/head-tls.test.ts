import { afterEach, beforeEach, expect, test } from "bun:test";
import { X509Certificate } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { connect } from "node:tls";
import { getJson } from "../../../src/cli/client/api.ts";
import { isTlsHere, trustFor } from "../../../src/cli/client/head-tls.ts";
import { LlmnodeError } from "../../../src/protocol/errors.ts";
import { readFrontNote, writeFrontNote } from "../../../src/protocol/head-files.ts";
import { startTestHead } from "../../helpers/cluster.ts";
import { testPair, type TestPair } from "../../helpers/pem.ts";
import { runProcess, spawnProcess } from "../../helpers/process.ts";
import { type TempDir, tempDir } from "../../helpers/temp.ts";
import { waitFor } from "../../helpers/wait.ts";
import { SELF } from "../../helpers/worker.ts";

let dir: TempDir;
beforeEach(() => {
  dir = tempDir();
});
afterEach(() => dir[Symbol.dispose]());

function startHttps(pair: TestPair): { url: string; port: number } & Disposable {
  const server = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    tls: { cert: pair.cert, key: pair.key },
    fetch: () => Response.json({ fine: true }),
  });
  const port = server.port ?? 0;
  const stop = () => void server.stop(true);
  return { url: `https://127.0.0.1:${port}`, port, [Symbol.dispose]: stop };
}

/** Where the head's folder is, below which it leaves its note. */
function dataDirWith(note: { url: string; certificate: string }): string {
  const dataDir = path.join(dir.path, "data");
  mkdirSync(path.join(dataDir, "head"), { recursive: true });
  writeFrontNote(dataDir, note);
  return dataDir;
}

const ask = async (
  url: string,
  { ca = null, dataDir = null }: { ca?: string | null; dataDir?: string | null } = {},
): Promise<string> => {
  try {
    const tls = trustFor(url, { ca, dataDir });
    return await getJson(
      { url, timeoutMs: 5000, retryPausesMs: [], ...(tls === null ? {} : { tls }) },
      "/",
    );
  } catch (error) {
    if (!(error instanceof LlmnodeError)) throw error;
    return `${error.code}: ${error.message} | ${error.hints.join(" | ")}`;
  }
};

test("a certificate from nobody known is refused, with the next step", async () => {
  using server = startHttps(await testPair());
  expect(await ask(server.url)).toBe(
    `tls_mismatch: cannot talk to the head at ${server.url}: its certificate is not trusted by this machine | trust its authority:   llmnode --ca <file> ...   (or LLMNODE_CA=<file>)`,
  );
});

test("--ca trusts its authorities, for their names, and nobody else", async () => {
  const authority = await testPair({ name: "an authority" });
  const ca = authority.into(dir.path, "ca").cert;
  using good = startHttps(await testPair({ issuer: authority.authority }));
  using named = startHttps(
    await testPair({ issuer: authority.authority, names: ["head.example.org"] }),
  );
  using other = startHttps(await testPair());
  expect(await ask(good.url, { ca })).toBe('{"fine":true}');
  expect(await ask(named.url, { ca })).toMatch(/its certificate is for another name \| call it by/);
  expect(await ask(other.url, { ca })).toContain("not trusted by this machine");
  expect(await ask(good.url, { ca: path.join(dir.path, "none") })).toMatch(
    /^usage: --ca .*none cannot be read/,
  );
  writeFileSync(path.join(dir.path, "text"), "hello");
  expect(await ask(good.url, { ca: path.join(dir.path, "text") })).toMatch(
    /^usage: --ca .*text has no certificate in PEM in it/,
  );
});

test("an expired certificate is refused even with its authority", async () => {
  const authority = await testPair({ name: "an authority" });
  const ca = authority.into(dir.path, "ca").cert;
  const notAfter = new Date(Date.now() - 3_600_000);
  using old = startHttps(await testPair({ issuer: authority.authority, notAfter }));
  expect(await ask(old.url, { ca })).toMatch(/its certificate has expired \| renew it/);
});

test("the head on this machine is trusted by the file it leaves, whatever its name", async () => {
  const authority = await testPair({ name: "an authority" });
  const pair = await testPair({ issuer: authority.authority, names: ["head.example.org"] });
  using server = startHttps(pair);
  const dataDir = dataDirWith({ url: server.url, certificate: pair.cert });
  expect(await ask(server.url, { dataDir })).toBe('{"fine":true}');
  expect(await ask(server.url.replace("127.0.0.1", "localhost"), { dataDir })).toBe(
    '{"fine":true}',
  );
  expect(isTlsHere(`http://127.0.0.1:${server.port}`, dataDir)).toBe(true);
  expect(isTlsHere(`http://10.0.0.1:${server.port}`, dataDir)).toBe(false);
  expect(isTlsHere("http://127.0.0.1:1", dataDir)).toBe(false);
  expect(isTlsHere(`http://127.0.0.1:${server.port}`, null)).toBe(false);
  // Another server on that port is not the head, even with a certificate of the same authority.
  using other = startHttps(await testPair({ issuer: authority.authority }));
  writeFrontNote(dataDir, { url: other.url, certificate: pair.cert });
  expect(await ask(other.url, { dataDir })).toMatch(
    /^tls_mismatch: .*(not trusted by this machine|shows another)/,
  );
});

test("a note that is none counts as none", async () => {
  const { cert } = await testPair();
  const dataDir = dataDirWith({ url: "https://127.0.0.1:1", certificate: cert });
  expect(readFrontNote(dataDir)).not.toBeNull();
  const file = path.join(dataDir, "head/clients.json");
  for (const text of [
    "",
    "{",
    "[]",
    "null",
    '{"url":1}',
    JSON.stringify({ url: "http://127.0.0.1:1", certificate: cert }),
    JSON.stringify({ url: "https://127.0.0.1:1", certificate: "no PEM" }),
  ]) {
    writeFileSync(file, text);
    expect(readFrontNote(dataDir)).toBeNull();
  }
});

test("http to TLS and https to plain are told apart from a head that is away", async () => {
  using server = startHttps(await testPair());
  expect(await ask(server.url.replace("https", "http"))).toBe(
    `tls_mismatch: cannot talk to the head at http://127.0.0.1:${server.port}: it speaks TLS | by https:   llmnode --head https://127.0.0.1:${server.port} ...`,
  );
  await using plain = await startTestHead();
  expect(await ask(plain.url.replace("http", "https"))).toMatch(
    /^tls_mismatch: .*it does not speak TLS \| without TLS\?/,
  );
  expect(await ask("https://127.0.0.1:1")).toMatch(/^head_unreachable: .*connection refused/);
});

test("a head by TLS from its command line: banner, status, doctor, SIGHUP, and its end", async () => {
  const pair = await testPair({ names: ["llm.example.org"] });
  const files = pair.into(dir.path);
  const data = path.join(dir.path, "data");
  const ports = ["--listen=127.0.0.1:0", "--session-listen=127.0.0.1:0"];
  await using head = spawnProcess([...SELF, "head", ...ports, "--data-dir", data], {
    env: { LLMNODE_TLS_CERT: files.cert, LLMNODE_TLS_KEY: files.key },
  });
  const [, url = "", sessions = ""] = await head.waitForLine(/url=(https:\S+) sessions=(\S+)/);
  const port = Number(new URL(url).port);
  const run = (env: Record<string, string>, ...words: string[]) =>
    runProcess([...SELF, ...words], { env });

  // Without a scheme it is found out; by its folder the certificate is trusted.
  const here = await run({ LLMNODE_DATA: data }, "status", "--head", `127.0.0.1:${port}`);
  expect(here).toMatchObject({ code: 0 });
  expect(here.stdout).toContain(url);
  const doctor = await run({ LLMNODE_DATA: data }, "doctor", sessions, "--head", url);
  expect(doctor.stdout).toContain(`${url} answers`);
  expect(doctor.stdout).toContain("streams come through at once");
  const elsewhere = await run({ LLMNODE_DATA: dir.path }, "status", "--head", url);
  expect(elsewhere.code).toBe(1);
  expect(elsewhere.stderr).toContain("not trusted by this machine");
  const plain = await run({ LLMNODE_DATA: data }, "status", "--head", url.replace("https", "http"));
  expect(plain.stderr).toContain("it speaks TLS");

  const second = await testPair();
  second.into(dir.path);
  head.kill("SIGHUP");
  await head.waitForLine(/clients get a new certificate/);
  expect(await shownBy(port)).toBe(new X509Certificate(second.cert).fingerprint256);
  await waitFor(() => readFrontNote(data)?.certificate === second.cert);
  const again = await run({ LLMNODE_DATA: data }, "status", "--head", url);
  expect(again).toMatchObject({ code: 0 });

  head.kill("SIGTERM");
  expect((await head.finished).code).toBe(0);
  expect(readFrontNote(data)).toBeNull();
});

test.each([
  [["--tls-cert", "cert"], "--tls-cert and --tls-key go together, --tls-key is missing"],
  [["--tls-key", "key"], "--tls-cert and --tls-key go together, --tls-cert is missing"],
  [["--tls-cert", "none", "--tls-key", "none"], "--tls-cert none cannot be read: there is no such"],
])("head %p says what is wrong and starts nothing", async (flags, expected) => {
  const ports = ["--listen=127.0.0.1:0", "--session-listen=127.0.0.1:0"];
  const { code, stderr } = await runProcess(
    [...SELF, "head", ...ports, "--data-dir", path.join(dir.path, "data"), ...flags],
    { cwd: dir.path },
  );
  expect(code).toBe(2);
  expect(stderr).toContain(expected);
  expect(
    stderr
      .trim()
      .split("\n")
      .filter((line) => line.startsWith("error:")),
  ).toHaveLength(1);
});

const shownBy = (port: number) =>
  new Promise<string>((resolve, reject) => {
    const socket = connect({ host: "127.0.0.1", port, rejectUnauthorized: false }, () => {
      resolve(socket.getPeerCertificate().fingerprint256);
      socket.destroy();
    });
    socket.on("error", reject);
  });
