import { afterEach, beforeEach, expect, test } from "bun:test";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { connect, type PeerCertificate } from "node:tls";
import { X509Certificate } from "node:crypto";
import { startHead } from "../../../src/head/head.ts";
import { startClientServer, type ClientServer } from "../../../src/head/api/client-server.ts";
import type { TlsFiles } from "../../../src/head/api/client-tls.ts";
import { messageOf, systemCode } from "../../../src/protocol/errors.ts";
import { readFrontNote } from "../../../src/protocol/head-files.ts";
import { memoryLog, operatorOf } from "../../helpers/cluster.ts";
import { testPair, type TestPair } from "../../helpers/pem.ts";
import { type TempDir, tempDir } from "../../helpers/temp.ts";
import { waitFor } from "../../helpers/wait.ts";

let dir: TempDir;
beforeEach(() => {
  dir = tempDir();
});
afterEach(() => dir[Symbol.dispose]());

const encoder = new TextEncoder();

interface TestServer extends AsyncDisposable {
  server: ClientServer;
  lines: string[];
  url: string;
  /** Streams that are open, to be fed and closed. */
  streams: ReadableStreamDefaultController<Uint8Array>[];
  /** Streams whose client went away. */
  cancelled: () => number;
}

async function serverFor(
  files: TlsFiles,
  more: { port?: number; tlsPollMs?: number } = {},
): Promise<TestServer> {
  const { log, lines } = memoryLog();
  const streams: ReadableStreamDefaultController<Uint8Array>[] = [];
  let cancelled = 0;
  const server = await startClientServer({
    listen: { host: "127.0.0.1", port: more.port ?? 0 },
    tls: files,
    log,
    idleTimeoutS: 10,
    tlsPollMs: more.tlsPollMs ?? 20,
    api: async (request) => {
      if (!request.url.endsWith("/stream")) return new Response(request.url);
      const body = new ReadableStream<Uint8Array>({
        start: (controller) => void streams.push(controller),
        cancel: () => void (cancelled += 1),
      });
      return new Response(body);
    },
  });
  return {
    server,
    lines,
    streams,
    url: `https://127.0.0.1:${server.port}`,
    cancelled: () => cancelled,
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

const shownBy = (port: number) =>
  new Promise<string>((resolve, reject) => {
    const socket = connect({ host: "127.0.0.1", port, rejectUnauthorized: false }, () => {
      const shown: PeerCertificate = socket.getPeerCertificate();
      resolve(shown.fingerprint256);
      socket.destroy();
    });
    socket.on("error", reject);
  });
const printOf = (pair: TestPair) => new X509Certificate(pair.cert).fingerprint256;
const shows = (port: number, pair: TestPair) =>
  waitFor(
    // A look that comes in the instant of the change may be reset.
    async () => (await shownBy(port).catch(() => "")) === printOf(pair),
    { what: "the new certificate" },
  );
const linesWith = (lines: string[], text: string) => lines.filter((line) => line.includes(text));

test("clients are served by TLS, for who trusts the certificate", async () => {
  const pair = await testPair();
  await using one = await serverFor(pair.into(dir.path));
  expect(one.server.scheme).toBe("https");
  expect(one.server.name).toBe("localhost");
  const response = await fetch(`${one.url}/x`, { tls: { ca: pair.cert }, keepalive: false });
  expect(await response.text()).toBe(`${one.url}/x`);
  const untrusted = await fetch(one.url, { keepalive: false }).then(() => null, systemCode);
  expect(untrusted).toBe("DEPTH_ZERO_SELF_SIGNED_CERT");
});

test("a changed pair is taken over while streams run on to their end", async () => {
  const first = await testPair({ name: "first" });
  const second = await testPair({ name: "second" });
  const third = await testPair({ name: "third" });
  await using one = await serverFor(first.into(dir.path));
  const tls = { ca: [first, second, third].map(({ cert }) => cert) };
  const get = (at: string) => fetch(one.url + at, { tls, keepalive: false });
  const texts: Promise<string>[] = [];
  const open = async () => {
    const count = one.streams.length;
    texts.push(get("/stream").then((response) => response.text()));
    await waitFor(() => one.streams.length > count);
  };
  const feed = (text: string) => {
    for (const stream of one.streams) stream.enqueue(encoder.encode(text));
  };
  await open();
  feed("a");
  for (const pair of [second, third]) {
    pair.into(dir.path);
    await shows(one.server.port, pair);
    await open();
    feed("b");
  }
  expect(one.server.pendingRequests).toBe(3);
  feed("c");
  for (const stream of one.streams) stream.close();
  expect(await Promise.all(texts)).toEqual(["abbc", "bbc", "bc"]);
  await waitFor(() => one.server.pendingRequests === 0);
  expect(await (await get("/after")).text()).toBe(`${one.url}/after`);
  expect(one.cancelled()).toBe(0);
  expect(linesWith(one.lines, "clients get a new certificate")).toHaveLength(2);
});

test("a client that leaves a stream of an earlier certificate is noticed", async () => {
  const first = await testPair();
  await using one = await serverFor(first.into(dir.path));
  const client = new AbortController();
  const request = fetch(`${one.url}/stream`, { tls: { ca: first.cert }, signal: client.signal });
  const text = request
    .then((response) => response.text())
    .then(
      () => "whole",
      () => "cut",
    );
  await waitFor(() => one.streams.length === 1);
  one.streams[0]?.enqueue(encoder.encode("a"));
  const second = await testPair();
  second.into(dir.path);
  await shows(one.server.port, second);
  client.abort();
  expect(await text).toBe("cut");
  await waitFor(() => one.cancelled() === 1);
});

test("clients that come all the time are never refused while certificates change", async () => {
  const pairs = await Promise.all(Array.from({ length: 4 }, () => testPair()));
  const [first] = pairs;
  if (!first) throw new Error("no pair");
  await using one = await serverFor(first.into(dir.path));
  const tls = { ca: pairs.map(({ cert }) => cert) };
  const failures: (string | null)[] = [];
  let served = 0;
  let done = false;
  const clients = Array.from({ length: 4 }, async () => {
    while (!done) {
      await fetch(one.url, { tls, keepalive: false }).then(
        async (response) => {
          await response.text();
          served += 1;
        },
        (error: unknown) => void failures.push(systemCode(error)),
      );
    }
  });
  for (const pair of pairs.slice(1)) {
    pair.into(dir.path);
    await shows(one.server.port, pair);
  }
  done = true;
  await Promise.all(clients);
  expect(served).toBeGreaterThan(10);
  // Nothing is refused; what comes in the instant in which the former listener closes may be reset.
  expect(failures.filter((code) => code !== "ECONNRESET")).toEqual([]);
  expect(failures.length).toBeLessThan(served / 5);
});

test("a bad pair keeps the old one and is told once, a good one after it is taken", async () => {
  const first = await testPair();
  const second = await testPair();
  const files = first.into(dir.path);
  await using one = await serverFor(files);
  writeFileSync(files.cert, second.cert); // as it is between the two writes of a renewal
  await waitFor(() => linesWith(one.lines, "do not belong together").length > 0);
  rmSync(files.key);
  await waitFor(() => linesWith(one.lines, "there is no such file").length > 0);
  for (let i = 0; i < 3; i += 1) await one.server.reloadTls();
  expect(await shownBy(one.server.port)).toBe(printOf(first));
  expect(linesWith(one.lines, "for clients stays:")).toHaveLength(2);
  writeFileSync(files.key, second.key);
  await shows(one.server.port, second);
});

test("an expired pair is not taken over", async () => {
  const first = await testPair();
  const late = await testPair({ notAfter: new Date(Date.now() - 1000) });
  await using one = await serverFor(first.into(dir.path));
  late.into(dir.path);
  await waitFor(() => linesWith(one.lines, "has expired").length > 0);
  expect(await shownBy(one.server.port)).toBe(printOf(first));
});

test("asked to, it looks at once, and says so when nothing has changed", async () => {
  const first = await testPair();
  const second = await testPair();
  await using one = await serverFor(first.into(dir.path), { tlsPollMs: 3_600_000 });
  await one.server.reloadTls();
  expect(linesWith(one.lines, "has not changed")).toHaveLength(1);
  second.into(dir.path);
  await one.server.reloadTls();
  expect(await shownBy(one.server.port)).toBe(printOf(second));
});

test("changes wait while streams of eight earlier certificates run", async () => {
  const first = await testPair();
  await using one = await serverFor(first.into(dir.path), { tlsPollMs: 3_600_000 });
  const texts: Promise<string>[] = [];
  let last = first;
  for (let i = 0; i <= 9; i += 1) {
    const tls = { ca: last.cert };
    const request = fetch(`${one.url}/stream`, { tls, keepalive: false });
    texts.push(request.then((response) => response.text()));
    await waitFor(() => one.streams.length === i + 1);
    const next = await testPair();
    next.into(dir.path);
    await one.server.reloadTls();
    if (i < 8) last = next;
    expect(await shownBy(one.server.port)).toBe(printOf(last));
  }
  expect(linesWith(one.lines, "requests still run under 8 earlier certificates")).toHaveLength(1);
  for (const stream of one.streams) stream.close();
  await Promise.all(texts);
  await waitFor(async () => {
    await one.server.reloadTls();
    return (await shownBy(one.server.port)) !== printOf(last);
  });
});

test("a certificate that ends soon is warned of once", async () => {
  const soon = await testPair({ notAfter: new Date(Date.now() + 3_600_000) });
  await using one = await serverFor(soon.into(dir.path));
  await one.server.reloadTls();
  await one.server.reloadTls();
  expect(linesWith(one.lines, "expires soon")).toHaveLength(1);
});

test("a port that another has is not shared with it, not even with another head", async () => {
  const pair = await testPair();
  const files = pair.into(dir.path);
  await using one = await serverFor(files);
  const outcome = await serverFor(files, { port: one.server.port }).then(
    async (wrong) => {
      await wrong[Symbol.asyncDispose]();
      return "shared";
    },
    (error: unknown) => messageOf(error),
  );
  expect(outcome).toContain("the port is taken");
});

test("the head's URL is https, and commands beside it find its certificate until it stops", async () => {
  const pair = await testPair();
  const second = await testPair();
  const { log } = memoryLog();
  const dataDir = path.join(dir.path, "data");
  const start = (tls: TlsFiles | null) =>
    startHead({
      listen: { host: "127.0.0.1", port: 0 },
      sessionListen: { host: "127.0.0.1", port: 0 },
      tls,
      insecure: true,
      dataDir,
      version: "0",
      log,
      settings: { tlsPollMs: 20 },
    });
  {
    await using head = await start(pair.into(dir.path));
    expect(head.url).toStartWith("https://127.0.0.1:");
    expect(head.name).toBe("localhost");
    expect(readFrontNote(dataDir)).toEqual({ url: head.url, certificate: pair.cert });
    const tls = { ca: [pair.cert, second.cert] };
    const status = await fetch(`${head.url}/api/v1/status`, { tls, keepalive: false });
    expect(status.status).toBe(200);
    const origin = { origin: head.url, ...operatorOf(dataDir) };
    const admin = (headers: Record<string, string>) =>
      fetch(`${head.url}/api/v1/join-tokens/first`, { tls, headers, keepalive: false });
    expect((await admin(origin)).status).toBe(200);
    const foreign = head.url.replace("https", "http");
    expect((await admin({ ...origin, origin: foreign })).status).toBe(403);
    second.into(dir.path);
    await waitFor(() => readFrontNote(dataDir)?.certificate === second.cert);
  }
  expect(readFrontNote(dataDir)).toBeNull();
  {
    await using plain = await start(null);
    expect(plain.url).toStartWith("http://");
    expect(plain.name).toBeNull();
    await plain.reloadTls();
    expect(readFrontNote(dataDir)).toBeNull();
  }
  expect(readFileSync(path.join(dataDir, "head/owner"), "utf8")).toContain("clients at http://");
});
