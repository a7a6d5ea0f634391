/** Lines 26 to 29: what requests cost, and who may ask how much. */

import { expect } from "bun:test";
import type { Like } from "../../src/sim/core/options.ts";
import { chatAnswer, eventStream, startEngine, startRawEngine } from "../helpers/engine.ts";
import { waitFor } from "../helpers/wait.ts";
import { CHAT, chat, type Cluster, startSimulated, type Transport } from "./cluster.ts";
import type { Line } from "./table.ts";

const messages = [{ role: "user", content: "hi" }];

/** Pairs of the same request without stream and with one. */
const PAIRS: [Like, string, object, string?][] = [
  ["vllm", CHAT, { messages }],
  ["vllm", "/v1/completions", { prompt: "hi" }],
  ["vllm", "/v1/responses", { input: "hi" }],
  ["vllm", "/v1/messages", { messages, max_tokens: 20 }],
  ["sglang", CHAT, { messages }],
  ["tgi", CHAT, { messages }],
  ["tgi", "/generate", { inputs: "hi", parameters: { details: true } }, "/generate_stream"],
  ["ollama", CHAT, { messages }],
  ["ollama", "/api/chat", { messages }],
  ["ollama", "/api/generate", { prompt: "hi" }],
  ["llama-server", CHAT, { messages }],
];

async function usageOf(transport: Transport, port: number, ask: [path: string, body: object]) {
  await using front = await transport.front([port]);
  const response = await front.post(...ask);
  expect([ask[0], response.status]).toEqual([ask[0], 200]);
  await response.text();
  return await front.next();
}

/** Makes a key; its headers are those of a request with it. */
async function keyFor(
  cluster: Cluster,
  limits: object,
): Promise<{ id: string; headers: Record<string, string> }> {
  const json = { "content-type": "application/json" };
  const headers = { ...json, ...cluster.operator };
  const made = await cluster.post("/api/v1/keys", limits, { headers });
  const { key, api_key } = (await made.json()) as { key: string; api_key: { id: string } };
  return { id: api_key.id, headers: { ...json, authorization: `Bearer ${key}` } };
}

export const ACCOUNTING: readonly Line[] = [
  ...PAIRS.map(([like, path, body, streamPath]): Line => ({
    line: 26,
    title: `usage of a stream is that of the whole answer: ${path} of ${like}`,
    async run(transport) {
      await using sim = await startSimulated({ like });
      const asked = { model: "m", ...body };
      const whole = await usageOf(transport, sim.port, [path, { ...asked, stream: false }]);
      const streamed = await usageOf(transport, sim.port, [
        streamPath ?? path,
        { ...asked, stream: true },
      ]);
      expect(whole.usage?.output).toBeGreaterThan(1);
      expect(streamed.usage?.output).toBe(whole.usage?.output ?? -1);
      // TGI's own streams do not tell the prompt's length.
      if (streamPath === undefined) expect(streamed.usage).toEqual(whole.usage);
      expect([streamed.finishReason, streamed.usageEstimated]).toEqual([whole.finishReason, false]);
    },
  })),
  {
    line: 26,
    title: "cached and reasoning details are kept, explicit zeros stay zeros",
    async run(transport) {
      const usage = {
        prompt_tokens: 0,
        completion_tokens: 7,
        prompt_tokens_details: { cached_tokens: 0 },
        completion_tokens_details: { reasoning_tokens: 5 },
      };
      const expected = { input: 0, output: 7, cachedInput: 0, reasoning: 5 };
      await using engine = startEngine((_, body) =>
        body.includes('"stream":true')
          ? eventStream([`data: ${JSON.stringify({ choices: [], usage })}\n\n`, "data: [DONE]\n\n"])
          : Response.json({ choices: [], usage }),
      );
      for (const stream of [false, true]) {
        const { usage: read } = await usageOf(transport, engine.port, [CHAT, chat({ stream })]);
        expect(read).toEqual(expected);
      }
    },
  },
  {
    line: 27,
    title: "a client that leaves after k frames: 499, at least k tokens, marked as an estimate",
    async run(transport) {
      const frame = 'data: {"choices":[{"index":0,"delta":{"content":"x"}}]}\n\n';
      for (const k of [1, 7, 5000]) {
        // All frames come at once, so that chunks are fewer than frames.
        await using engine = startEngine(() =>
          eventStream(
            (async function* () {
              yield frame.repeat(k);
              await new Promise(() => {});
            })(),
          ),
        );
        await using front = await transport.front([engine.port]);
        const client = new AbortController();
        const response = await front.post(CHAT, chat({ stream: true }), { signal: client.signal });
        let got = 0;
        for await (const chunk of response.body ?? []) {
          got += chunk.length;
          if (got >= k * frame.length) break;
        }
        client.abort();
        const record = await front.next();
        expect([record.status, record.error, record.usageEstimated]).toEqual([
          499,
          "client_gone",
          true,
        ]);
        expect(record.usage?.output).toBeGreaterThanOrEqual(k);
        expect(record.usage?.output).toBeLessThanOrEqual(k * 1.01);
      }
    },
  },
  {
    line: 27,
    title: "Anthropic's first event, which tells one token, is no final count",
    async run(transport) {
      const event = (value: object & { type: string }) =>
        `event: ${value.type}\ndata: ${JSON.stringify(value)}\n\n`;
      await using engine = startEngine(() =>
        eventStream(
          (async function* () {
            const usage = { input_tokens: 9, output_tokens: 1 };
            yield event({ type: "message_start", message: { usage } } as never);
            for (let i = 0; i < 5; i += 1) {
              yield event({ type: "content_block_delta", delta: { text: "x" } } as never);
            }
            await new Promise(() => {});
          })(),
        ),
      );
      await using front = await transport.front([engine.port]);
      const client = new AbortController();
      const asked = { model: "m", stream: true, max_tokens: 9, messages };
      const response = await front.post("/v1/messages", asked, { signal: client.signal });
      let text = "";
      for await (const chunk of response.body ?? []) {
        text += Buffer.from(chunk).toString();
        if (text.split("content_block_delta").length > 10) break;
      }
      client.abort();
      const { usage, usageEstimated } = await front.next();
      expect([usage?.input, usageEstimated]).toEqual([9, true]);
      expect(usage?.output).toBeGreaterThanOrEqual(5);
    },
  },
  {
    line: 27,
    title: "the key is charged for it",
    async run(transport) {
      const frame = 'data: {"choices":[{"index":0,"delta":{"content":"x"}}]}\n\n';
      await using engine = startEngine(() =>
        eventStream(
          (async function* () {
            yield frame.repeat(9);
            await new Promise(() => {});
          })(),
        ),
      );
      await using cluster = await transport.start({ engines: [engine] });
      const { id, headers } = await keyFor(cluster, {});
      const client = new AbortController();
      const { signal } = client;
      const response = await cluster.post(CHAT, chat({ stream: true }), { headers, signal });
      let got = 0;
      for await (const chunk of response.body ?? []) {
        got += chunk.length;
        if (got >= 9 * frame.length) break;
      }
      client.abort();
      const row = await waitFor(async () => {
        const answer = await fetch(`${cluster.url}/api/v1/usage?by=key`);
        const { rows } = (await answer.json()) as { rows: Record<string, unknown>[] };
        return rows.find(({ key }) => key === id);
      });
      const { output_tokens: output, input_tokens: input, estimated_tokens: estimated } = row;
      expect(output).toBeGreaterThanOrEqual(9);
      expect(input).toBeGreaterThan(0);
      expect(estimated).toBe(Number(input) + Number(output));
    },
  },
  {
    line: 28,
    title: "N of N+1 requests at once succeed; every ending releases its slot",
    async run(transport) {
      await using engine = startEngine(async (_, body, signal) => {
        if (body.includes("4xx")) return Response.json({ error: "no" }, { status: 400 });
        if (body.includes("5xx")) return Response.json({ error: "no" }, { status: 500 });
        if (!body.includes("hang")) return chatAnswer("ok");
        return new Promise((resolve) => {
          signal.addEventListener("abort", () => resolve(chatAnswer("too late")));
        });
      });
      await using crashing = startRawEngine((socket) => socket.reset());
      await using cluster = await transport.start({
        settings: { proxy: { totalTimeoutMs: 1000 } },
        engines: [engine, { port: crashing.port, models: ["crash"] }],
      });
      const many = await keyFor(cluster, { requests_per_minute: 5 });
      const statuses = await Promise.all(
        Array.from({ length: 6 }, async () => {
          return (await cluster.post(CHAT, chat(), { headers: many.headers })).status;
        }),
      );
      expect(statuses.sort()).toEqual([200, 200, 200, 200, 200, 429]);
      expect(engine.seen.length).toBe(5);

      const { headers } = await keyFor(cluster, { concurrency: 1 });
      const ask = (more: object, signal?: AbortSignal) =>
        cluster.post(CHAT, chat(more), { headers, ...(signal && { signal }) });
      const free = async () => {
        await waitFor(async () => (await ask({})).status === 200, { what: "the slot to be free" });
      };
      const client = new AbortController();
      const gone = ask({ why: "hang" }, client.signal).then(String, String);
      await waitFor(() => engine.seen.at(-1)?.body.includes("hang") ?? false);
      const second = await ask({});
      expect([second.status, second.headers.get("retry-after")]).toEqual([429, "1"]);
      client.abort();
      await gone;
      await free();
      const ends: [object, number][] = [
        [{ why: "4xx" }, 400],
        [{ why: "5xx" }, 500],
        [{ why: "hang" }, 504],
        [{ model: "crash" }, 502],
      ];
      for (const [more, status] of ends) {
        expect([more, (await ask(more)).status]).toEqual([more, status]);
        await free();
      }
    },
  },
  {
    line: 28,
    title: "the limit of an address: aborts, 4xx, 5xx and cuts each release their slot",
    async run(transport) {
      const gate = Promise.withResolvers<void>();
      await using engine = startEngine(async (_, body) => {
        if (body.includes("4xx")) return Response.json({ error: "no" }, { status: 400 });
        if (body.includes("5xx")) return Response.json({ error: "no" }, { status: 500 });
        if (body.includes("hang")) await new Promise(() => {});
        await gate.promise;
        return chatAnswer("ok");
      });
      await using cut = startRawEngine((socket) => socket.reset());
      await using cluster = await transport.start({
        settings: { maxRequestsPerAddress: 1 },
        engines: [engine, { port: cut.port, models: ["cut"] }],
      });
      const first = cluster.post(CHAT, chat());
      await waitFor(() => engine.seen.length === 1);
      const second = await cluster.post(CHAT, chat());
      expect([second.status, second.headers.get("retry-after")]).toEqual([429, "1"]);
      gate.resolve();
      expect((await first).status).toBe(200);
      const free = async () => {
        await waitFor(async () => (await cluster.post(CHAT, chat())).status === 200, {
          what: "the slot to be free",
        });
      };
      await free();
      for (const why of ["4xx", "5xx"]) {
        expect((await cluster.post(CHAT, chat({ why }))).status).toBe(why === "4xx" ? 400 : 500);
        await free();
      }
      expect((await cluster.post(CHAT, chat({ model: "cut" }))).status).toBe(502);
      await free();
      expect((await cluster.post(CHAT, "{")).status).toBe(400);
      await free();
      const client = new AbortController();
      const hanging = cluster.post(CHAT, chat({ why: "hang" }), { signal: client.signal });
      await waitFor(() => engine.seen.at(-1)?.body.includes("hang") ?? false);
      client.abort();
      await expect(hanging).rejects.toThrow();
      await free();
    },
  },
  {
    line: 29,
    title: "unauthenticated requests never reach a worker",
    async run(transport) {
      await using engine = startEngine(() => chatAnswer("ok"));
      await using cluster = await transport.start({ engines: [engine] });
      const json = { "content-type": "application/json" };
      const ask = (headers: Record<string, string>) =>
        cluster.post(CHAT, chat(), { headers: { ...json, ...headers } });
      const made = await cluster.post(
        "/api/v1/keys",
        {},
        { headers: { ...json, ...cluster.operator } },
      );
      const { key } = (await made.json()) as { key: string };
      const bad = `${key.slice(0, -1)}_`;
      const strangers: [Record<string, string>, number][] = [
        [{}, 401],
        [{ authorization: `Bearer ${bad}` }, 401],
        [{ authorization: "Bearer" }, 401],
        [{ authorization: "Basic dTpw" }, 401],
        [{ "x-api-key": bad }, 401],
        [{ authorization: `Bearer ${key}`, "x-api-key": bad }, 400],
        [{ authorization: `Bearer ${key}`, "x-llmnode-worker": "any" }, 403],
      ];
      for (const [headers, status] of strangers) {
        expect([headers, (await ask(headers)).status]).toEqual([headers, status]);
      }
      expect(engine.seen.length).toBe(0);
      expect((await ask({ authorization: `Bearer ${key}` })).status).toBe(200);
      expect((await ask({ "x-api-key": key })).status).toBe(200);
      expect(engine.seen.map(({ headers }) => headers.get("authorization"))).toEqual([null, null]);
    },
  },
];
