import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { Upstream } from "../../../src/util/http/exchange.ts";
import { directUpstream } from "../../helpers/upstream.ts";
import { RESUME_DEFAULTS, type ResumeSettings } from "../../../src/proxy/resume/resume.ts";
import type { Sim } from "../../../src/sim/sim.ts";
import {
  eventStream,
  type RawEngine,
  type RawSocket,
  startEngine,
  startRawEngine,
} from "../../helpers/engine.ts";
import { waitFor } from "../../helpers/wait.ts";
import { MODEL, quickSim } from "../../sim/harness.ts";
import { startFront, type FrontOptions } from "../front.ts";

const CHAT = "/v1/chat/completions";
const COMPLETION = "/v1/completions";
const MARK = ": llmnode-resumed\n\n";
const TOKENS = 9;
const WITH_USAGE = { stream_options: { include_usage: true } };
const ERROR = '"code":"upstream_broken"';

const chat = (more: object = {}) => ({
  model: MODEL,
  messages: [{ role: "user", content: "tell me" }],
  max_tokens: TOKENS,
  stream: true,
  ...more,
});
const completion = (more: object = {}) => ({
  model: MODEL,
  prompt: "once upon",
  max_tokens: TOKENS,
  stream: true,
  ...more,
});

let vllm: Sim;
let sglang: Sim;
beforeAll(async () => {
  vllm = await quickSim();
  sglang = await quickSim({ like: "sglang" });
});
afterAll(async () => {
  await vllm.stop();
  await sglang.stop();
});

/** The whole stream that an engine answers with. */
async function answerOf(sim: Sim, path: string, body: object): Promise<Buffer> {
  const response = await fetch(sim.url + path, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ ...body, ...WITH_USAGE }),
  });
  return Buffer.from(await response.arrayBuffer());
}

interface CutEngine extends RawEngine {
  /** Ends it, as it is to be once its client has something of the answer. */
  cut(): void;
}

/** An engine that sends these pieces and nothing more. */
function cutEngine(...pieces: (Uint8Array | string)[]): CutEngine {
  const sockets: RawSocket[] = [];
  const engine = startRawEngine((socket, text) => {
    // What it has not read when it closes would be a reset, which takes the answer with it.
    if (!text.endsWith("}")) return;
    sockets.push(socket);
    socket.write(
      "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n",
    );
    for (const piece of pieces) {
      const bytes = Buffer.from(piece);
      socket.write(`${bytes.length.toString(16)}\r\n${bytes.toString("latin1")}\r\n`);
    }
  });
  return Object.assign(engine, {
    cut() {
      for (const socket of sockets.splice(0)) socket.end();
    },
  });
}

/** All of a stream whose engine is cut when the first of it is here. */
async function textOf(response: Response, engine: CutEngine | null): Promise<string> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of response.body ?? []) {
    chunks.push(chunk);
    engine?.cut();
  }
  return Buffer.concat(chunks).toString();
}

const at = ({ port }: { port: number }): Upstream => directUpstream(`http://127.0.0.1:${port}`);

/** Passes a request that has come to a test's engine on to the simulated one. */
function toSim(request: Request, body: string): Promise<Response> {
  return fetch(`http://127.0.0.1:${vllm.port}${new URL(request.url).pathname}`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body,
    signal: request.signal,
  });
}

interface Seen {
  text: string;
  ids: Set<unknown>;
  created: Set<unknown>;
  roles: number;
  reasons: unknown[];
  usages: unknown[];
  done: number;
  resumed: number;
}

/** What a client reads from a stream. */
function read(stream: string): Seen {
  const seen: Seen = {
    text: "",
    ids: new Set(),
    created: new Set(),
    roles: 0,
    reasons: [],
    usages: [],
    done: 0,
    resumed: 0,
  };
  expect(stream).toEndWith("\n\n");
  for (const frame of stream.slice(0, -2).split("\n\n")) {
    if (frame === MARK.trimEnd()) seen.resumed += 1;
    if (frame.startsWith(":")) continue;
    expect(frame).toStartWith("data: ");
    if (frame === "data: [DONE]") {
      seen.done += 1;
      continue;
    }
    const value = JSON.parse(frame.slice(6));
    seen.ids.add(value.id);
    seen.created.add(value.created);
    if (value.usage) seen.usages.push(value.usage);
    const [choice] = value.choices;
    if (!choice) continue;
    seen.text += choice.text ?? choice.delta.content ?? "";
    if (choice.delta?.role) seen.roles += 1;
    if (choice.finish_reason) seen.reasons.push(choice.finish_reason);
  }
  return seen;
}

async function ask(
  options: FrontOptions & { engine?: CutEngine; resume?: Partial<ResumeSettings> },
  [path, body, init]: [path: string, body: object, init?: RequestInit],
) {
  const resume = { ...RESUME_DEFAULTS, ...options.resume };
  await using front = startFront({ ...options, proxy: { resume, ...options.proxy } });
  const response = await front.post(path, body, init);
  const text = await textOf(response, options.engine ?? null);
  const record = await front.next();
  expect(front.bugs).toEqual([]);
  return { text, record, outcomes: [...front.outcomes] };
}

describe.each([
  ["a chat on vLLM", () => vllm, CHAT, chat],
  ["a chat on SGLang", () => sglang, CHAT, chat],
  ["a completion on vLLM", () => vllm, COMPLETION, completion],
  ["a completion on SGLang", () => sglang, COMPLETION, completion],
] as const)("%s", (_, simOf, path, body) => {
  test("cut anywhere, it is one answer", async () => {
    const sim = simOf();
    const whole = await answerOf(sim, path, body());
    const uncut = read(whole.toString("latin1"));
    expect(uncut.text).toHaveLength(4 * TOKENS);
    const first = whole.indexOf("\n\n") + 2;
    const lastFrame = whole.lastIndexOf("data: [DONE]");
    const ends: number[] = [];
    for (let end = first; end > 1; end = whole.indexOf("\n\n", end) + 2) ends.push(end);
    // At the end of every frame, beside it, and within.
    const cuts = ends.flatMap((end) => [end - 1, end, end + 1, end + 40]);
    for (const cut of new Set(cuts)) {
      if (cut < first || cut >= lastFrame) continue;
      for (const asked of [WITH_USAGE, {}]) {
        await using engine = cutEngine(whole.subarray(0, cut));
        const upstreams = [at(engine), at(sim)];
        const { text, record, outcomes } = await ask({ engine, upstreams }, [path, body(asked)]);
        const seen = read(text);
        expect({ cut, ...seen }).toEqual({
          ...uncut,
          cut,
          usages: "stream_options" in asked ? uncut.usages : [],
          resumed: 1,
        });
        expect(seen.ids.size).toBe(1);
        expect(record).toMatchObject({ resume: "resumed", error: null, finishReason: "length" });
        expect(record.usage).toMatchObject({ output: TOKENS });
        expect(outcomes.at(-1)).toBe("ok");
      }
    }
  });

  test("without a limit it ends where it would have ended", async () => {
    const sim = simOf();
    const open = body({ max_tokens: path === CHAT ? undefined : null });
    const whole = await answerOf(sim, path, open);
    const uncut = read(whole.toString());
    await using engine = cutEngine(whole.subarray(0, 4000));
    const { text } = await ask({ engine, upstreams: [at(engine), at(sim)] }, [path, open]);
    expect(read(text)).toEqual({ ...uncut, usages: [], resumed: 1 });
    expect(uncut.reasons).toEqual(["stop"]);
  });
});

test("a piece of a frame is held back until the frame is whole, whole frames are not", async () => {
  const whole = await answerOf(vllm, CHAT, chat());
  const first = whole.indexOf("\n\n") + 2;
  const second = whole.indexOf("\n\n", first) + 2;
  const gate = Promise.withResolvers<void>();
  await using engine = startEngine(() =>
    eventStream(
      (async function* () {
        yield whole.subarray(0, first).toString();
        yield whole.subarray(first, second).toString() +
          whole.subarray(second, second + 9).toString();
        await gate.promise;
        yield whole.subarray(second + 9).toString();
      })(),
    ),
  );
  await using front = startFront({ upstreams: [at(engine)] });
  const reader = (await front.post(CHAT, chat())).body?.getReader();
  let text = "";
  while (text.length < second) text += Buffer.from((await reader?.read())?.value ?? []).toString();
  expect(text).toBe(whole.subarray(0, second).toString());
  gate.resolve();
  for (;;) {
    const { done, value } = (await reader?.read()) ?? { done: true };
    if (done) break;
    text += Buffer.from(value ?? []).toString();
  }
  // The client did not ask for usage.
  const { usages, ...rest } = read(whole.toString());
  expect(usages).toHaveLength(1);
  expect(read(text)).toMatchObject(rest);
});

/** A stream of some tokens, as far as an engine came with it. */
async function begun(path = CHAT, body: object = chat()): Promise<Buffer> {
  const whole = await answerOf(vllm, path, body);
  return whole.subarray(0, Math.floor(whole.length / 2));
}

describe("goes on nowhere, and the client gets the error,", () => {
  test.each<[name: string, path: string, body: object]>([
    ["with tools", CHAT, chat({ tools: [{ type: "function", function: { name: "f" } }] })],
    ["with a tool's answer", CHAT, chat({ messages: [{ role: "tool", content: "x" }] })],
    [
      "with tools called before",
      CHAT,
      chat({
        messages: [
          { role: "assistant", tool_calls: [{}] },
          { role: "user", content: "" },
        ],
      }),
    ],
    [
      "with an answer begun by the client",
      CHAT,
      chat({ messages: [{ role: "assistant", content: "I" }] }),
    ],
    ["with a response_format", CHAT, chat({ response_format: { type: "json_object" } })],
    ["with guided_json", CHAT, chat({ guided_json: {} })],
    ["with guided_choice", CHAT, chat({ guided_choice: ["a"] })],
    ["with guided_regex", COMPLETION, completion({ guided_regex: "a+" })],
    ["with structured_outputs", CHAT, chat({ structured_outputs: { regex: "a" } })],
    ["with n", CHAT, chat({ n: 2 })],
    ["with best_of", COMPLETION, completion({ best_of: 2 })],
    ["with logprobs of a chat", CHAT, chat({ logprobs: true })],
    ["with logprobs of a completion", COMPLETION, completion({ logprobs: 0 })],
    ["with echo", COMPLETION, completion({ echo: true })],
    ["with stop", CHAT, chat({ stop: ["x"] })],
    ["with stop_token_ids", CHAT, chat({ stop_token_ids: [1] })],
    ["with min_tokens", CHAT, chat({ min_tokens: 5 })],
    ["with ignore_eos", CHAT, chat({ ignore_eos: true })],
    ["with a presence penalty", CHAT, chat({ presence_penalty: 0.5 })],
    ["with a frequency penalty", CHAT, chat({ frequency_penalty: 0.5 })],
    ["with a repetition penalty", CHAT, chat({ repetition_penalty: 1.1 })],
    ["with a seed", CHAT, chat({ seed: 0 })],
    ["with a field that is not known", CHAT, chat({ new_field: 1 })],
    [
      "with usage in every frame",
      CHAT,
      chat({ stream_options: { include_usage: true, continuous_usage_stats: true } }),
    ],
    ["with a prompt of tokens", COMPLETION, completion({ prompt: [1, 2, 3] })],
    ["with several prompts", COMPLETION, completion({ prompt: ["a", "b"] })],
    ["with a suffix", COMPLETION, completion({ suffix: "the end" })],
  ])("%s", async (_, path, body) => {
    const isChat = path === CHAT;
    const sent = await begun(path, isChat ? chat() : completion());
    await using engine = cutEngine(sent);
    const { text, record } = await ask({ engine, upstreams: [at(engine), at(vllm)] }, [path, body]);
    expect(text).toContain(ERROR);
    expect(text).not.toContain("[DONE]");
    expect(text).not.toContain(MARK);
    expect(record).toMatchObject({ resume: "not_possible", error: "broken" });
    expect(record.attempts).toHaveLength(1);
  });

  test.each<[name: string, delta: string]>([
    ["when thoughts have begun", '{"reasoning_content":"hm"}'],
    ["when thoughts have begun under their newer name", '{"reasoning":"hm"}'],
    ["when a tool is called", '{"tool_calls":[{"index":0,"id":"c"}]}'],
    ["when it refuses", '{"refusal":"no"}'],
  ])("%s", async (_, delta) => {
    const frame = `data: {"id":"i","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":${delta},"finish_reason":null}]}\n\n`;
    await using engine = cutEngine(frame);
    const { text, record } = await ask({ engine, upstreams: [at(engine), at(vllm)] }, [
      CHAT,
      chat(),
    ]);
    expect(text).toContain(ERROR);
    expect(record.resume).toBe("not_possible");
  });

  test.each<[name: string, resume: Partial<ResumeSettings>, init: RequestInit]>([
    ["when it is off", { mode: "off" }, {}],
    ["when the client wants none", {}, { headers: { "x-llmnode-resume": "off" } }],
    ["when the body is large", { maxBodyBytes: 10 }, {}],
  ])("%s", async (_, resume, init) => {
    await using engine = cutEngine(await begun());
    const upstreams = [at(engine), at(vllm)];
    const { text, record } = await ask({ engine, upstreams, resume }, [CHAT, chat(), init]);
    expect(text).toContain(ERROR);
    expect(record).toMatchObject({ resume: null, error: "broken" });
  });

  test.each<[name: string, resume: Partial<ResumeSettings>]>([
    ["when the answer is large", { maxAnswerBytes: 300 }],
    ["when memory is short", { maxHeldBytes: 4200 }],
  ])("%s", async (_, resume) => {
    await using engine = cutEngine((await begun()).subarray(0, 250), (await begun()).subarray(250));
    const upstreams = [at(engine), at(vllm)];
    const { text, record } = await ask({ engine, upstreams, resume }, [CHAT, chat()]);
    expect(text).toContain(ERROR);
    expect(record.resume).toBe("not_possible");
  });

  test("on an engine of a kind that is not known to continue", async () => {
    await using engine = cutEngine(await begun());
    await using front = startFront({
      upstreams: [at(engine), at(vllm)],
      engines: [{ engineKind: "ollama" }],
    });
    expect(await textOf(await front.post(CHAT, chat()), engine)).toContain(ERROR);
    expect((await front.next()).resume).toBeNull();
  });

  test("where no other replica is", async () => {
    await using engine = cutEngine(await begun());
    const { text, record, outcomes } = await ask({ engine, upstreams: [at(engine)] }, [
      CHAT,
      chat(),
    ]);
    expect(text).toContain(ERROR);
    expect(record).toMatchObject({ resume: "no_replica", error: "broken" });
    expect(outcomes).toEqual(["broken"]);
  });

  test.each<[name: string, answer: () => Response, again: boolean]>([
    ["the engine cannot count", () => new Response("no", { status: 404 }), true],
    ["the engine says nonsense", () => new Response('{"tokens":"many"}'), true],
    [
      "its template closes the answer",
      () => Response.json({ tokens: [Math.random(), Math.random()] }),
      false,
    ],
  ])("where %s", async (_, answer, again) => {
    await using engine = cutEngine(await begun());
    await using other = startEngine(answer);
    await using front = startFront({ upstreams: [at(engine), at(other)] });
    for (let i = 0; i < 2; i += 1) {
      expect(await textOf(await front.post(CHAT, chat()), engine)).toContain(ERROR);
      const record = await front.next();
      expect(record).toMatchObject({ resume: "not_possible", error: "broken" });
      expect(record.attempts.map(({ outcome }) => outcome)).toEqual(["broken", "rescheduled"]);
      expect(other.seen.map(({ path }) => path)).not.toContain(CHAT);
    }
    // What is never right is not asked about again.
    const first = again ? 2 : 1;
    expect(
      other.seen.filter(({ body }) => body.includes('add_generation_prompt":true')),
    ).toHaveLength(first);
  });

  test("where the text would be another, this time", async () => {
    await using engine = cutEngine(await begun());
    await using other = startEngine((request, body) => {
      const { pathname } = new URL(request.url);
      if (pathname === "/detokenize") return Response.json({ prompt: "[simulated]" });
      return Response.json({
        tokens: body.includes("continue_final_message") ? [1, 2, 3] : [1, 2],
      });
    });
    const upstreams = [at(engine), at(other)];
    const { text, record } = await ask({ engine, upstreams }, [CHAT, chat()]);
    expect(text).toContain(ERROR);
    expect(record.resume).toBe("not_possible");
  });

  test.each<[status: number, outcome: string]>([
    [400, "rejected"],
    [500, "engine_error"],
  ])("where the other replica answers %d", async (status, outcome) => {
    await using engine = cutEngine(await begun());
    await using other = startEngine((request, body) => {
      const { pathname } = new URL(request.url);
      if (pathname === CHAT) return Response.json({ error: { message: "no" } }, { status });
      return toSim(request, body);
    });
    const upstreams = [at(engine), at(other), at(vllm)];
    const { text, record } = await ask({ engine, upstreams }, [CHAT, chat()]);
    expect(text).toContain(ERROR);
    expect(record).toMatchObject({ resume: "failed", error: "broken" });
    expect(record.attempts.map((one) => one.outcome)).toEqual(["broken", outcome as "rejected"]);
  });

  test("where the engine takes the rest for thoughts, and is not asked again", async () => {
    await using engine = cutEngine(await begun());
    await using other = startEngine((request, body) => {
      const { pathname } = new URL(request.url);
      if (pathname !== CHAT) return toSim(request, body);
      const frame = (delta: object) =>
        `data: ${JSON.stringify({ id: "i", choices: [{ index: 0, delta }] })}\n\n`;
      return eventStream([frame({ role: "assistant", content: "" }), frame({ reasoning: "hm" })]);
    });
    await using front = startFront({ upstreams: [at(engine), at(other)] });
    for (let i = 0; i < 2; i += 1) {
      const text = await textOf(await front.post(CHAT, chat()), engine);
      expect(text).toContain(ERROR);
      expect(text).not.toContain("hm");
      expect((await front.next()).resume).toBe("not_possible");
    }
    expect(other.seen.filter(({ path }) => path === CHAT)).toHaveLength(1);
  });

  test("a second time", async () => {
    const sent = await begun();
    await using engine = cutEngine(sent);
    await using other = await quickSim({ dieMidStreamTokens: 2 });
    const upstreams = [at(engine), at(other), at(vllm)];
    const { text, record } = await ask({ engine, upstreams }, [CHAT, chat({ max_tokens: 40 })]);
    expect(text.split(MARK)).toHaveLength(2);
    expect(text).toContain(ERROR);
    expect(text).not.toContain("[DONE]");
    expect(record).toMatchObject({ resume: "resumed", error: "broken" });
    expect(record.attempts.map(({ outcome }) => outcome)).toEqual(["broken", "broken"]);
  });

  test("when it takes too long", async () => {
    await using engine = cutEngine(await begun());
    await using other = startEngine(() => new Promise<Response>(() => {}));
    const upstreams = [at(engine), at(other)];
    const resume = { timeoutMs: 100 };
    const { text, record } = await ask({ engine, upstreams, resume }, [CHAT, chat()]);
    expect(text).toContain(ERROR);
    expect(record).toMatchObject({ resume: "failed", error: "broken" });
    await waitFor(() => other.aborted > 0, { what: "the other engine's request to be given up" });
  });
});

test("a stream that the head takes away goes on elsewhere", async () => {
  const sent = await begun();
  await using engine = startEngine(() =>
    eventStream(
      (async function* () {
        yield sent.toString();
        await new Promise(() => {});
      })(),
    ),
  );
  await using front = startFront({ upstreams: [at(engine), at(vllm)] });
  const response = await front.post(CHAT, chat());
  const text = response.text();
  await waitFor(() => engine.active === 0, { what: "the answer to begin" });
  front.reschedule("fail");
  expect(read(await text)).toMatchObject({ done: 1, resumed: 1 });
  expect(await front.next()).toMatchObject({ resume: "resumed", error: null });
});

test.each<[name: string, frame: string]>([
  ["says that it has failed", `data: {"error":{"message":"EngineCore died","code":500}}\n\n`],
  [
    "ends its answers because it is told to stop",
    `data: {"id":"i","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"abort"}]}\n\n`,
  ],
])("an engine that %s in its stream has broken off", async (_, frame) => {
  const whole = await answerOf(vllm, CHAT, chat());
  const cut = whole.indexOf("\n\n", 900) + 2;
  const stream = () =>
    eventStream([
      whole.subarray(0, 300).toString(),
      `${whole.subarray(300, cut).toString()}${frame}data: [DONE]\n\n`,
    ]);
  await using engine = startEngine(stream);
  const { text, record } = await ask({ upstreams: [at(engine), at(vllm)] }, [CHAT, chat()]);
  expect(read(text)).toEqual({ ...read(whole.toString()), usages: [], resumed: 1 });
  expect(record).toMatchObject({ resume: "resumed", error: null });
  // Where nobody goes on, the client hears what the engine said.
  const alone = await ask({ upstreams: [at(engine)] }, [CHAT, chat()]);
  expect(alone.text).toBe(`${whole.subarray(0, cut).toString()}${frame}data: [DONE]\n\n`);
  expect(alone.record.resume).toBe("no_replica");
});

test("replicas without room are passed over", async () => {
  const whole = await answerOf(vllm, CHAT, chat());
  await using engine = cutEngine(whole.subarray(0, 900));
  await using full = startEngine((request, body) => {
    const { pathname } = new URL(request.url);
    if (pathname === CHAT) return new Response("full", { status: 429 });
    return toSim(request, body);
  });
  const gone: Upstream = directUpstream("http://127.0.0.1:1");
  const upstreams = [at(engine), gone, at(full), at(vllm)];
  const { text, outcomes } = await ask({ engine, upstreams }, [CHAT, chat()]);
  expect(read(text)).toEqual({ ...read(whole.toString()), usages: [], resumed: 1 });
  expect(outcomes).toEqual(["broken", "unreachable", "busy", "ok"]);
});

test("a client that leaves meanwhile is not kept for", async () => {
  await using engine = cutEngine(await begun());
  await using other = startEngine(() => new Promise<Response>(() => {}));
  await using front = startFront({ upstreams: [at(engine), at(other)] });
  const leave = new AbortController();
  const response = await front.post(CHAT, chat(), { signal: leave.signal });
  const reading = textOf(response, engine).catch(() => "left");
  await waitFor(() => other.seen.length > 0, { what: "another replica to be asked" });
  leave.abort();
  expect(await reading).toBe("left");
  const record = await front.next();
  expect(record).toMatchObject({ status: 499 });
  expect(record.attempts.at(-1)?.outcome).toBe("client_gone");
  await waitFor(() => other.aborted > 0, { what: "the other engine to be told" });
  expect(front.outcomes).toEqual(["broken", "client_gone"]);
});

test("the client's own aborts and good ends take and leave nothing", async () => {
  await using front = startFront({ upstreams: [at(vllm)] });
  for (let i = 0; i < 20; i += 1) {
    expect(read(await textOf(await front.post(CHAT, chat()), null))).toMatchObject({
      done: 1,
      resumed: 0,
    });
    expect((await front.next()).resume).toBeNull();
  }
  expect(front.heldBytes).toBe(0);
});
