/** An older major version of OpenAI's own client, as programs in the field have it, and the binary. */

import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { createRequire } from "node:module";
import path from "node:path";
import { binaryPath } from "../../helpers/binary.ts";
import { ownEnvironment } from "../../helpers/environment.ts";
import { spawnProcess } from "../../helpers/process.ts";
import { startRealHead } from "../../helpers/real-head.ts";
import { tempDir } from "../../helpers/temp.ts";
import { waitFor } from "../../helpers/wait.ts";

setDefaultTimeout(60_000);

// Installed in this folder alone, so its types are not there for the check of the whole tree.
const { OpenAI } = createRequire(path.join(import.meta.dir, "package.json"))("openai");
const stack = new AsyncDisposableStack();
let client: any;

beforeAll(async () => {
  const home = stack.use(tempDir()).path;
  const command = [await binaryPath()];
  const head = stack.use(await startRealHead({ command, home, args: ["--settle-time", "1s"] }));
  const engine = ["llmnode", "sim", "--port", "0", "--model", "m"];
  const worker = [...command, "join", head.sessions, "--", ...engine];
  stack.use(spawnProcess(worker, { env: ownEnvironment(home) }));
  client = new OpenAI({ baseURL: `${head.url}/v1`, apiKey: "any", maxRetries: 0 });
  await waitFor(async () => (await client.models.list()).data.length === 1, { timeoutMs: 30_000 });
}, 180_000);
afterAll(() => stack.disposeAsync());

const messages = [{ role: "user", content: "hello" }];

test("models, an answer and a stream", async () => {
  expect((await client.models.retrieve("m")).id).toBe("m");
  const answer = await client.chat.completions.create({ model: "m", messages, max_tokens: 8 });
  expect([answer.choices[0].message.role, answer.usage.completion_tokens]).toEqual([
    "assistant",
    8,
  ]);
  const stream = await client.chat.completions.create({
    model: "m",
    messages,
    max_tokens: 8,
    stream: true,
    stream_options: { include_usage: true },
  });
  let text = "";
  let usage = null;
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta.content ?? "";
    usage = chunk.usage ?? usage;
  }
  expect([text, usage?.completion_tokens]).toEqual([answer.choices[0].message.content, 8]);
});

test("errors have the classes that programs catch", async () => {
  const asked = client.chat.completions.create({ model: "none", messages });
  const error = await asked.catch((caught: unknown) => caught);
  expect(error).toBeInstanceOf(OpenAI.NotFoundError);
  expect([error.status, error.code, typeof error.request_id]).toEqual([
    404,
    "model_not_found",
    "string",
  ]);
});

test("embeddings arrive as numbers, whatever the client asks for on the wire", async () => {
  const { data } = await client.embeddings.create({ model: "m", input: ["a", "b"] });
  expect([data.length, typeof data[1].embedding[0]]).toEqual([2, "number"]);
});
