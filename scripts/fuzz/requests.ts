/** Makes HTTP requests as no program would send them, and sends them as bytes. */

import net from "node:net";
import { ROUTES } from "../../src/proxy/request/routes.ts";
import { damaged, damagedBytes, jsonText, oddText, type Random } from "./random.ts";

export interface RawRequest {
  /** What is written at a time, as text of one character per byte. */
  writes: string[];
  /** How the client leaves: when it has an answer, or before. */
  leaves: "answered" | "at once" | "half closed";
}

export interface RequestWish {
  models: readonly string[];
  /** The header lines of an operator. */
  operator: readonly string[];
}

const OWN = [
  ...[
    "/",
    "/metrics",
    "/health/live",
    "/health/ready",
    "/v1/models",
    "/v1/models/x",
    "/api/tags",
    "/api/ps",
  ],
  ...[
    "/v1/dnt/table",
    "/api/v1/status",
    "/api/v1/watch",
    "/api/v1/watch/requests",
    "/api/v1/requests",
  ],
  ...[
    "/api/v1/events",
    "/api/v1/usage",
    "/api/v1/workers/logs?worker=x",
    "/v1/realtime",
    "/v1/responses/resp_1",
  ],
];
const OPERATORS = [
  ...["/api/v1/keys", "/api/v1/keys/revoke", "/api/v1/join-tokens", "/api/v1/join-tokens/revoke"],
  ...["/api/v1/aliases", "/api/v1/aliases/remove", "/api/v1/audit", "/api/v1/workers/drains"],
  ...[
    "/api/v1/workers/drain",
    "/api/v1/workers/undrain",
    "/api/v1/workers/forget",
    "/api/v1/requests/cancel",
  ],
];
const BODIES = [
  { name: "k", role: "user", models: ["good-*"], requests_per_minute: 5, expires_in_ms: 60_000 },
  { id: "0123456789ab", purge: true },
  { alias: "fast=good-direct:50,good-lane:50", force: false },
  { name: "fast" },
  { expires_in_ms: 60_000, uses: 1, models: "a*", note: "x" },
  { workers: ["nobody"], deadline_ms: 1000, dry_run: true, who: "me" },
];
const HEADERS = [
  ...[
    "Host: head.test",
    "Host: evil.example",
    "Host: 127.0.0.1:8092",
    "Host: [::1]",
    "Origin: http://evil.example",
  ],
  ...[
    "X-Forwarded-For: 1.2.3.4, 5.6.7.8",
    "X-Forwarded-Proto: https",
    "Forwarded: for=1.2.3.4",
    "Expect: 100-continue",
  ],
  ...[
    "Authorization: Bearer sk-ln-0123456789ab-x",
    "Authorization: Bearer",
    "Authorization: Basic YTpi",
    "X-Api-Key: k",
  ],
  ...[
    "X-Request-Id: \u001b[2J",
    "X-Llmnode-Worker: nobody",
    "X-Llmnode-Debug-Route: 1",
    "Traceparent: 00-x-y-01",
  ],
  ...[
    "Accept-Encoding: gzip",
    "Content-Encoding: gzip",
    "Upgrade: websocket",
    "Connection: upgrade",
    "Range: bytes=0-",
  ],
  ...[
    "X-Llmnode-Timeout: 1s",
    "X-Llmnode-Priority: 9",
    "Cookie: a=b",
    "Last-Event-Id: 9",
    "TE: trailers",
  ],
  ...["Access-Control-Request-Method: POST", "Sec-Fetch-Site: cross-site", "Keep-Alive: timeout=9"],
];
const METHODS = [
  "GET",
  "POST",
  "POST",
  "HEAD",
  "OPTIONS",
  "PUT",
  "DELETE",
  "PATCH",
  "TRACE",
  "CONNECT",
  "BREW",
];

export function requestOf(random: Random, wish: RequestWish): RawRequest {
  const isOperators = random.chance(0.15);
  const path = pathOf(
    random,
    isOperators ? OPERATORS : random.chance(0.7) ? [...ROUTES.keys()] : OWN,
  );
  const isForm = path.includes("/audio/") && random.chance(0.8);
  const body = isForm ? formOf(random, wish) : jsonBody(random, wish, isOperators);
  const method = random.chance(0.7) ? "POST" : random.pick(METHODS);
  const lines = [
    `${method} ${path} HTTP/1.1`,
    random.chance(0.9) ? "Host: 127.0.0.1" : random.pick(HEADERS),
    isForm ? "Content-Type: multipart/form-data; boundary=b" : "Content-Type: application/json",
    ...random.several(3, () => (random.chance(0.8) ? random.pick(HEADERS) : headerOf(random))),
    ...(isOperators || random.chance(0.1) ? wish.operator : []),
  ];
  const framed = framedBody(random, body);
  const text = `${[...lines, ...framed.headers].join("\r\n")}\r\n\r\n`;
  const whole = Buffer.concat([Buffer.from(text, "latin1"), framed.bytes]);
  const sent = random.chance(0.85) ? whole : damagedBytes(random, whole);
  return {
    writes: writesOf(random, sent),
    leaves: random.chance(0.75) ? "answered" : random.pick(["at once", "half closed"]),
  };
}

function pathOf(random: Random, paths: readonly string[]): string {
  const path = random.pick(paths);
  if (random.chance(0.75)) return path;
  const odd = random.chance(0.5) ? damaged(random, path) : `${path}?${oddText(random)}`;
  const service = `/v1/service/${random.pick(["llm", "x", ".."])}${path}`;
  // What ends the request's line is made elsewhere.
  return (random.chance(0.2) ? service : odd).replaceAll(/[\s\u0100-\uffff]/g, "%20") || "/";
}

function headerOf(random: Random): string {
  return `X-${random.below(9)}: ${oddText(random).replaceAll(/[\r\n\u0100-\uffff]/g, "?")}`;
}

function jsonBody(random: Random, { models }: RequestWish, isOperators: boolean): Buffer {
  const text = isOperators
    ? JSON.stringify(random.pick(BODIES))
    : `{"model":${JSON.stringify(random.chance(0.8) ? random.pick(models) : oddText(random))},` +
      `"messages":[{"role":"user","content":${jsonText(random, 2)}}],` +
      `"prompt":${jsonText(random, 2)},"input":${jsonText(random, 1)},` +
      `"stream":${random.pick(["true", "false", "null", "1"])},` +
      `"max_tokens":${random.pick(["1", "-1", "1e99", '"5"', "null"])},"x":${random.pick(['"refuse"', "0"])}}`;
  if (random.chance(0.6)) return Buffer.from(text);
  return random.chance(0.7)
    ? Buffer.from(damaged(random, text))
    : damagedBytes(random, Buffer.from(text));
}

function formOf(random: Random, { models }: RequestWish): Buffer {
  const part = (name: string, value: string) =>
    `--b\r\nContent-Disposition: form-data; name="${name}"\r\n\r\n${value}\r\n`;
  const form = `${part("model", random.pick(models))}${part("file", oddText(random, 30))}--b--\r\n`;
  return random.chance(0.6) ? Buffer.from(form) : damagedBytes(random, Buffer.from(form));
}

function framedBody(random: Random, body: Buffer): { headers: string[]; bytes: Buffer } {
  const kind = random.below(10);
  if (kind < 6) return { headers: [`Content-Length: ${body.length}`], bytes: body };
  if (kind < 9) {
    const size = 1 + random.below(200);
    const chunks: Buffer[] = [];
    for (let at = 0; at < body.length; at += size) {
      const chunk = body.subarray(at, at + size);
      chunks.push(Buffer.from(`${chunk.length.toString(16)}\r\n`), chunk, Buffer.from("\r\n"));
    }
    chunks.push(Buffer.from("0\r\n\r\n"));
    return { headers: ["Transfer-Encoding: chunked"], bytes: Buffer.concat(chunks) };
  }
  const wrong = [`Content-Length: ${body.length + 5}`, "Content-Length: 1", "Content-Length: x"];
  return {
    headers: [random.pick([...wrong, "Transfer-Encoding: gzip", "Content-Length: 300000000"])],
    bytes: body,
  };
}

function writesOf(random: Random, bytes: Buffer): string[] {
  const pieces = random.chance(0.7) ? 1 : 1 + random.below(4);
  const size = Math.max(1, Math.ceil(bytes.length / pieces));
  return Array.from({ length: Math.ceil(bytes.length / size) }, (_, i) =>
    bytes.toString("latin1", i * size, (i + 1) * size),
  );
}

/** A request that is not whole, or a stream without an end, is left after so long. */
const PATIENCE_MS = 400;
/** What came of an answer by then is enough to see its status. */
const MAX_KEPT_CHARS = 64 * 1024;

/** The statuses of the answers that came, announcements left out. Never rejects. */
export async function sendRaw(port: number, { writes, leaves }: RawRequest): Promise<number[]> {
  const socket = net.connect({ port, host: "127.0.0.1" });
  const over = Promise.withResolvers<void>();
  let received = "";
  socket.on("data", (data) => {
    if (received.length < MAX_KEPT_CHARS) received += data.toString("latin1");
    if (isWhole(received)) over.resolve();
  });
  // A connection that is reset is one of the answers.
  socket.on("error", () => over.resolve());
  socket.on("close", () => over.resolve());
  socket.on("connect", () => {
    for (const text of writes) socket.write(Buffer.from(text, "latin1"));
    if (leaves === "half closed") socket.end();
    if (leaves === "at once") setImmediate(over.resolve);
  });
  const timer = setTimeout(over.resolve, PATIENCE_MS);
  await over.promise;
  clearTimeout(timer);
  socket.destroy();
  return [...received.matchAll(/(?:^|\n)HTTP\/1\.1 (\d{3}) /g)]
    .map((match) => Number(match[1]))
    .filter((status) => status >= 200);
}

/** Whether the first answer is there with all its body; a guess by its length, or the last chunk. */
function isWhole(received: string): boolean {
  const end = received.indexOf("\r\n\r\n");
  if (end === -1) return false;
  const head = received.slice(0, end);
  const length = /^content-length: (\d+)/im.exec(head)?.[1];
  if (length !== undefined) return received.length >= end + 4 + Number(length);
  return received.endsWith("0\r\n\r\n");
}
