import { afterAll, beforeAll, expect, test } from "bun:test";
import OpenAI from "openai";
import { FAST, fakeWorker, startTestHead } from "../../helpers/cluster.ts";
import { laneWorker } from "../../helpers/lanes.ts";
import { spawnProcess, type TestProcess } from "../../helpers/process.ts";
import { waitFor } from "../../helpers/wait.ts";
import { SELF } from "../../helpers/worker.ts";

const TOKENS = 40;
const question = {
  model: "m",
  messages: [{ role: "user" as const, content: "tell me a long story" }],
  max_tokens: TOKENS,
};

interface Engine {
  process: TestProcess;
  port: number;
}

async function startEngine(...flags: string[]): Promise<Engine> {
  const quick = ["--port", "0", "--model", "m", "--ttft", "5ms", "--itl", "2ms"];
  const process = spawnProcess([...SELF, "sim", ...quick, ...flags]);
  const [, port] = await process.waitForLine(/http:\/\/127\.0\.0\.1:(\d+)/);
  return { process, port: Number(port) };
}

let sound: Engine;
let whole: string;
beforeAll(async () => {
  sound = await startEngine();
  whole = await textOf(`http://127.0.0.1:${sound.port}`);
});
afterAll(() => sound.process[Symbol.asyncDispose]());

async function textOf(url: string): Promise<string> {
  const answer = await client(url).chat.completions.create(question);
  return answer.choices[0]?.message.content ?? "";
}

function client(url: string): OpenAI {
  return new OpenAI({ baseURL: `${url}/v1`, apiKey: "k", maxRetries: 0 });
}

async function metric(url: string, name: string): Promise<string[]> {
  const text = await (await fetch(`${url}/metrics`)).text();
  return text.split("\n").filter((line) => line.startsWith(`${name}{`));
}

/** What a client gets whose engine is struck after some tokens. */
async function askAndStrike(url: string, strike: () => Promise<void>) {
  const seen = { text: "", ids: new Set<string>(), roles: 0, reasons: [] as string[] };
  let usage: OpenAI.CompletionUsage | null = null;
  let struck = false;
  const stream = await client(url).chat.completions.create({
    ...question,
    stream: true,
    stream_options: { include_usage: true },
  });
  for await (const chunk of stream) {
    seen.ids.add(chunk.id);
    const [choice] = chunk.choices;
    seen.text += choice?.delta.content ?? "";
    if (choice?.delta.role) seen.roles += 1;
    if (choice?.finish_reason) seen.reasons.push(choice.finish_reason);
    usage = chunk.usage ?? usage;
    if (struck || seen.text.length < 40) continue;
    struck = true;
    await strike();
  }
  return { ...seen, ids: seen.ids.size, output: usage?.completion_tokens };
}

const UNBROKEN = { ids: 1, roles: 1, reasons: ["length"], output: TOKENS };

test.each([
  ["direct", fakeWorker],
  ["by lane", laneWorker],
] as const)("an engine killed in the middle of a stream: one answer, %s", async (_, start) => {
  await using head = await startTestHead(FAST);
  await using doomed = (await startEngine("--itl", "50ms")).process;
  const [, port] = await doomed.waitForLine(/http:\/\/127\.0\.0\.1:(\d+)/);
  await using first = await start(head, { port: Number(port), models: ["m"] });
  await head.ready("m");
  const answer = askAndStrike(head.url, async () => {
    await head.ready("m", 2);
    doomed.kill("SIGKILL");
  });
  await waitFor(async () => (await head.status()).models[0]?.in_flight === 1);
  await using second = await start(head, { port: sound.port, models: ["m"] });
  expect(await answer).toEqual({ text: whole, ...UNBROKEN });
  expect(first.id).not.toBe(second.id);
  expect(await metric(head.url, "llmnode_stream_resumes_total")).toEqual([
    'llmnode_stream_resumes_total{model="m",result="resumed"} 1',
  ]);
  expect(await metric(head.url, "llmnode_stream_truncated_total")).toEqual([]);
  await waitFor(async () => (await head.status()).models[0]?.in_flight === 0);
});

test("a machine that vanishes in the middle of a stream: one answer", async () => {
  await using head = await startTestHead(FAST);
  await using doomed = (await startEngine("--itl", "50ms")).process;
  const [, port] = await doomed.waitForLine(/http:\/\/127\.0\.0\.1:(\d+)/);
  await using first = fakeWorker(head, { port: Number(port), models: ["m"] });
  await head.ready("m");
  const answer = askAndStrike(head.url, async () => {
    await head.ready("m", 2);
    doomed.kill("SIGSTOP");
    first.silence();
  });
  await waitFor(async () => (await head.status()).models[0]?.in_flight === 1);
  await using _second = fakeWorker(head, { port: sound.port, models: ["m"] });
  try {
    expect(await answer).toEqual({ text: whole, ...UNBROKEN });
  } finally {
    doomed.kill("SIGCONT");
  }
});

test("many streams when one of three engines is killed: every answer is whole", async () => {
  await using head = await startTestHead(FAST);
  await using stack = new AsyncDisposableStack();
  const engines = await Promise.all([1, 2, 3].map(() => startEngine("--itl", "40ms")));
  for (const { process, port } of engines) {
    stack.use(process);
    stack.use(fakeWorker(head, { port, models: ["m"] }));
  }
  await head.ready("m", 3);
  let begun = 0;
  const ask = async (i: number) => {
    const messages = [{ role: "user" as const, content: `question ${i}` }];
    const body = { ...question, messages };
    const expected = await client(`http://127.0.0.1:${sound.port}`).chat.completions.create(body);
    const stream = await client(head.url).chat.completions.create({ ...body, stream: true });
    let text = "";
    for await (const chunk of stream) {
      if (text === "" && chunk.choices[0]?.delta.content) begun += 1;
      text += chunk.choices[0]?.delta.content ?? "";
    }
    expect(text).toBe(expected.choices[0]?.message.content ?? "");
  };
  const answers = Promise.all(Array.from({ length: 24 }, (_, i) => ask(i)));
  await waitFor(() => begun === 24);
  engines[0]?.process.kill("SIGKILL");
  await answers;
  const [resumes = ""] = await metric(head.url, "llmnode_stream_resumes_total");
  expect(resumes).toMatch(/result="resumed"\} [1-9]/);
});

test("a head that is told not to lets the stream end with an error", async () => {
  await using head = await startTestHead(FAST, { resume: "off" });
  await using doomed = (await startEngine("--itl", "50ms")).process;
  const [, port] = await doomed.waitForLine(/http:\/\/127\.0\.0\.1:(\d+)/);
  await using _first = fakeWorker(head, { port: Number(port), models: ["m"] });
  await head.ready("m");
  const answer = askAndStrike(head.url, async () => {
    await head.ready("m", 2);
    doomed.kill("SIGKILL");
  });
  await waitFor(async () => (await head.status()).models[0]?.in_flight === 1);
  await using _second = fakeWorker(head, { port: sound.port, models: ["m"] });
  const told = await answer.then(
    () => "an answer",
    (error: unknown) => String(error),
  );
  expect(told).toContain("died before its answer was complete");
  expect(await metric(head.url, "llmnode_stream_resumes_total")).toEqual([]);
});
