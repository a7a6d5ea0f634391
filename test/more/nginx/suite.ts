/** nginx in front of the head, with a plain `proxy_pass` and nothing else set. */

import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { readChatStream } from "../../../scripts/chat-stream.ts";
import { binaryPath } from "../../helpers/binary.ts";
import { freePort } from "../../helpers/free-port.ts";
import { ownEnvironment } from "../../helpers/environment.ts";
import { spawnProcess } from "../../helpers/process.ts";
import { startRealHead } from "../../helpers/real-head.ts";
import { tempDir } from "../../helpers/temp.ts";
import { toolPath } from "../../helpers/tool.ts";
import { waitFor } from "../../helpers/wait.ts";

setDefaultTimeout(60_000);

const nginx = toolPath("nginx");
const stack = new AsyncDisposableStack();
let front = "";

beforeAll(async () => {
  if (nginx === null) return;
  const home = stack.use(tempDir()).path;
  const command = [await binaryPath()];
  const head = stack.use(await startRealHead({ command, home, args: ["--settle-time", "1s"] }));
  const engine = ["llmnode", "sim", "--port", "0", "--model", "m", "--itl", "100ms"];
  const worker = [...command, "join", head.sessions, "--", ...engine];
  stack.use(spawnProcess(worker, { env: ownEnvironment(home) }));
  const port = freePort();
  front = `http://127.0.0.1:${port}`;
  stack.use(startNginx(nginx, { folder: path.join(home, "nginx"), port, to: head.url }));
  await waitFor(async () => (await fetch(`${front}/v1/models`).catch(() => null))?.ok, {
    timeoutMs: 30_000,
  });
  await waitFor(async () => (await (await fetch(`${front}/v1/models`)).text()).includes('"m"'), {
    timeoutMs: 30_000,
  });
}, 180_000);
afterAll(() => stack.disposeAsync());

function startNginx(
  program: string,
  { folder, port, to }: { folder: string; port: number; to: string },
) {
  mkdirSync(folder);
  const file = path.join(folder, "nginx.conf");
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
    .map((kind) => `${kind}_temp_path ${folder}/${kind};`)
    .join(" ");
  writeFileSync(
    file,
    `${process.getuid?.() === 0 ? "user root;" : ""} daemon off; pid ${folder}/pid; error_log stderr; worker_processes 1;
     events { worker_connections 256; }
     http {
       access_log off; ${temporary}
       server { listen 127.0.0.1:${port}; location / { proxy_pass ${to}; } }
     }\n`,
  );
  return spawnProcess([program, "-p", folder, "-c", file]);
}

const chat = (extra: object = {}) =>
  fetch(`${front}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({
      model: "m",
      stream: true,
      max_tokens: 20,
      messages: [{ role: "user", content: "hello" }],
      ...extra,
    }),
  });

test.skipIf(nginx === null)("a stream comes piece by piece, and whole", async () => {
  const response = await chat();
  expect([response.status, response.headers.get("server")?.startsWith("nginx")]).toEqual([
    200,
    true,
  ]);
  const times: number[] = [];
  if (response.body === null) throw new Error("the answer has no body");
  const wrong = await readChatStream(response.body, () => times.push(performance.now()));
  expect(wrong).toBeNull();
  // 20 tokens at 100 ms each take 2 s. Held back, they would all come in one instant.
  expect((times.at(-1) ?? 0) - (times[0] ?? 0)).toBeGreaterThan(1000);
});

test.skipIf(nginx === null)("an answer in one piece, an error and a long body pass", async () => {
  const whole = await chat({ stream: false });
  expect([whole.status, ((await whole.json()) as { object: string }).object]).toEqual([
    200,
    "chat.completion",
  ]);
  const unknown = await chat({ model: "unknown-model" });
  expect([unknown.status, await unknown.json()]).toMatchObject([
    404,
    { error: { code: "model_not_found" } },
  ]);
  // More than nginx keeps in memory, less than its limit of 1 MiB for a body.
  const long = await chat({ messages: [{ role: "user", content: "x".repeat(60_000) }] });
  expect(long.status).toBe(200);
  await long.body?.cancel();
});

test.skipIf(nginx === null)("a client that leaves ends its request at the head", async () => {
  const id = `left-${crypto.randomUUID()}`;
  const leaving = new AbortController();
  const response = await fetch(`${front}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json", "x-request-id": id },
    body: JSON.stringify({
      model: "m",
      stream: true,
      max_tokens: 20_000,
      messages: [{ role: "user", content: "hello" }],
    }),
    signal: leaving.signal,
  });
  expect(response.headers.get("x-request-id")).toBe(id);
  const running = async () => (await fetch(`${front}/api/v1/requests`)).text();
  await waitFor(async () => (await running()).includes(id));
  leaving.abort();
  await waitFor(async () => !(await running()).includes(id));
});
