/** Line 7: every route of every dialect passes, with the same routing and accounting. */

import { expect } from "bun:test";
import Anthropic from "@anthropic-ai/sdk";
import { Ollama } from "ollama";
import OpenAI, { toFile } from "openai";
import { ROUTES } from "../../src/proxy/request/routes.ts";
import type { Like } from "../../src/sim/core/options.ts";
import { startEngine } from "../helpers/engine.ts";
import { type Cluster, chat, startSimulated, type Transport } from "./cluster.ts";
import type { Line } from "./table.ts";

/** Runs `use` against a cluster of one simulated engine that has the manners of `like`. */
function withSim(like: Like, use: (cluster: Cluster) => Promise<void>) {
  return async (transport: Transport) => {
    await using sim = await startSimulated({ like });
    const engines = [{ port: sim.port, kind: like }];
    await using cluster = await transport.start({ binary: [], engines });
    await use(cluster);
    await cluster.idle();
  };
}

interface Shot {
  like: Like;
  path: string;
  body: object;
  /** What must be in the answer. */
  has: string;
}

/** Routes without an official client: the request as the engine's own documentation has it. */
const SHOTS: readonly Shot[] = [
  { like: "vllm", path: "/v1/rerank", body: rerank(), has: "relevance_score" },
  { like: "vllm", path: "/v2/rerank", body: rerank(), has: "relevance_score" },
  { like: "vllm", path: "/rerank", body: rerank(), has: "relevance_score" },
  { like: "llama-server", path: "/rerank", body: rerank(), has: "relevance_score" },
  { like: "vllm", path: "/v1/score", body: { model: "m", text_1: "a", text_2: "b" }, has: "score" },
  { like: "vllm", path: "/score", body: { model: "m", text_1: "a", text_2: "b" }, has: "score" },
  { like: "vllm", path: "/classify", body: { model: "m", input: "a" }, has: "data" },
  { like: "vllm", path: "/pooling", body: { model: "m", input: "a" }, has: "data" },
  { like: "vllm", path: "/tokenize", body: { model: "m", prompt: "a b" }, has: "tokens" },
  { like: "vllm", path: "/detokenize", body: { model: "m", tokens: [1] }, has: "prompt" },
  { like: "sglang", path: "/v1/tokenize", body: { model: "m", prompt: "a b" }, has: "tokens" },
  { like: "sglang", path: "/generate", body: { text: "hi", model: "m" }, has: "text" },
  { like: "tgi", path: "/tokenize", body: { inputs: "hi" }, has: "text" },
  { like: "tgi", path: "/generate", body: { inputs: "hi" }, has: "generated_text" },
  { like: "tgi", path: "/generate_stream", body: { inputs: "hi" }, has: "generated_text" },
  { like: "ollama", path: "/api/embeddings", body: { model: "m", prompt: "x" }, has: "embedding" },
];

function rerank(): object {
  return { model: "m", query: "a", documents: ["a", "b"] };
}

const openai = (cluster: Cluster) =>
  new OpenAI({ baseURL: `${cluster.url}/v1`, apiKey: "k", maxRetries: 0 });

const messages = [{ role: "user" as const, content: "hi" }];

const SDKS: readonly Line[] = [
  {
    line: 7,
    title: "chat, completions, responses by openai",
    run: withSim("vllm", async (cluster) => {
      const client = openai(cluster);
      const whole = await client.chat.completions.create({ model: "m", messages });
      const stream = await client.chat.completions.create({ model: "m", messages, stream: true });
      let text = "";
      for await (const chunk of stream) text += chunk.choices[0]?.delta.content ?? "";
      expect(text).toBe(whole.choices[0]?.message.content ?? "");
      const completion = await client.completions.create({ model: "m", prompt: "hi" });
      expect(completion.choices[0]?.text).not.toBe("");
      const response = await client.responses.create({ model: "m", input: "hi" });
      const types: string[] = [];
      const events = await client.responses.create({ model: "m", input: "hi", stream: true });
      for await (const event of events) types.push(event.type);
      expect([types[0], types.at(-1)]).toEqual(["response.created", "response.completed"]);
      expect(response.output_text).not.toBe("");
    }),
  },
  {
    line: 7,
    title: "speech, transcription, translation, images, moderations by openai",
    run: withSim("vllm", async (cluster) => {
      const client = openai(cluster);
      const file = await toFile(Buffer.from("RIFF0000WAVE"), "a.wav");
      const { text } = await client.audio.transcriptions.create({ file, model: "m" });
      expect(text).not.toBe("");
      const translated = await client.audio.translations.create({ file, model: "m" });
      expect(translated.text).not.toBe("");
      const speech = await client.audio.speech.create({ model: "m", voice: "alloy", input: "hi" });
      expect((await speech.arrayBuffer()).byteLength).toBeGreaterThan(0);
      const images = await client.images.generate({ model: "m", prompt: "a cat" });
      expect(images.data?.length).toBe(1);
      const moderation = await client.moderations.create({ model: "m", input: "hi" });
      expect(moderation.results.length).toBe(1);
    }),
  },
  {
    line: 7,
    title: "/v1/messages and count_tokens by @anthropic-ai/sdk",
    run: withSim("vllm", async (cluster) => {
      const client = new Anthropic({ baseURL: cluster.url, apiKey: "k", maxRetries: 0 });
      const asked = { model: "m", max_tokens: 16, messages };
      const whole = await client.messages.create(asked);
      expect(whole.content[0]?.type).toBe("text");
      const streamed = await client.messages.stream(asked).finalMessage();
      expect(streamed.content).toMatchObject(whole.content);
      expect(streamed.usage.output_tokens).toBe(whole.usage.output_tokens);
      const counted = await client.messages.countTokens({ model: "m", messages });
      expect(counted.input_tokens).toBeGreaterThan(0);
      // Its errors have its own shape.
      const missing = client.messages.create({ ...asked, model: "none" });
      expect(await missing.catch((error: unknown) => error)).toBeInstanceOf(Anthropic.APIError);
    }),
  },
  {
    line: 7,
    title: "/api/* by ollama",
    run: withSim("ollama", async (cluster) => {
      const client = new Ollama({ host: cluster.url });
      const whole = await client.chat({ model: "m", messages });
      let text = "";
      let done = 0;
      for await (const part of await client.chat({ model: "m:latest", messages, stream: true })) {
        text += part.message.content;
        if (part.done) done += 1;
      }
      expect([text, done]).toEqual([whole.message.content, 1]);
      const generated = await client.generate({ model: "m", prompt: "hi" });
      expect(generated.response).not.toBe("");
      const embedded = await client.embed({ model: "m", input: ["a", "b"] });
      expect(embedded.embeddings.length).toBe(2);
      expect((await client.list()).models.map(({ name }) => name)).toEqual(["m:latest"]);
      expect((await client.ps()).models.length).toBeLessThanOrEqual(1);
      expect((await client.show({ model: "m" })).details).toBeObject();
      const version = await fetch(`${cluster.url}/api/version`);
      expect(await version.json()).toHaveProperty("version");
      await expect(client.chat({ model: "none", messages })).rejects.toThrow("The model");
      for (const path of ["/api/pull", "/api/delete", "/api/create", "/api/copy", "/api/push"]) {
        expect((await cluster.post(path, { model: "m" })).status).toBe(404);
      }
    }),
  },
  {
    line: 7,
    title: "/info of tgi",
    run: withSim("tgi", async (cluster) => {
      const response = await fetch(`${cluster.url}/info`);
      expect(await response.json()).toHaveProperty("model_id");
    }),
  },
];

const RAW: readonly Line[] = SHOTS.map(({ like, path, body, has }) => ({
  line: 7,
  title: `${path} of ${like}`,
  run: withSim(like, async (cluster) => {
    const response = await cluster.post(path, body);
    const text = await response.text();
    expect([response.status, text.includes(`"${has}"`)]).toEqual([200, true]);
    expect(response.headers.get("x-llmnode-worker")).toStartWith("fake-worker");
    expect(response.headers.get("x-request-id")).not.toBeNull();
  }),
}));

const FORMS: readonly Line[] = [
  {
    line: 7,
    title: "every route of the list reaches an engine that may be anything, and an own kind only",
    async run(transport) {
      await using engine = startEngine(() => Response.json({}));
      await using cluster = await transport.start({
        binary: [],
        engines: [
          { port: engine.port, kind: "generic" },
          { port: engine.port, kind: "lmdeploy", models: ["l"] },
        ],
      });
      const form = '--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nMODEL\r\n--b--\r\n';
      for (const route of ROUTES.values()) {
        if (route.method !== "POST") continue;
        const ask = (model: string) =>
          route.body === "multipart"
            ? cluster.post(route.path, form.replace("MODEL", model), {
                headers: { "content-type": "multipart/form-data; boundary=b" },
              })
            : cluster.post(route.path, { model });
        expect([route.path, (await ask("m")).status]).toEqual([route.path, 200]);
        expect(engine.seen.at(-1)?.path).toBe(route.path);
        const has = route.kinds?.includes("lmdeploy") ?? true;
        expect([route.path, (await ask("l")).status]).toEqual([route.path, has ? 200 : 404]);
      }
    },
  },
  {
    line: 7,
    title: "OpenTela's and ServerlessLLM's forms route like ours",
    async run(transport) {
      await using a = startEngine(() => Response.json({ from: "a" }));
      await using b = startEngine(() => Response.json({ from: "b" }));
      await using cluster = await transport.start({
        binary: [],
        engines: [
          { port: a.port, kind: "vllm" },
          { port: b.port, kind: "sglang" },
        ],
      });
      const path = "/v1/service/llm/v1/chat/completions";
      expect((await cluster.post(path, chat())).status).toBe(200);
      const table = (await (await fetch(`${cluster.url}/v1/dnt/table`)).json()) as Record<
        string,
        { id: string; service: { identity_group: string[] }[] }
      >;
      const workers = Object.values(table).filter(({ service }) => service.length > 0);
      expect(workers.length).toBe(2);
      expect(workers[0]?.service[0]?.identity_group).toEqual(["model=m"]);
      const answers = new Set<string>();
      for (const { id } of workers) {
        const pinned = `/v1/p2p/${id}/v1/_service/llm/v1/chat/completions`;
        for (let i = 0; i < 4; i += 1)
          answers.add(await (await cluster.post(pinned, chat())).text());
      }
      expect([...answers].sort()).toEqual(['{"from":"a"}', '{"from":"b"}']);
      const nobody = "/v1/p2p/nobody/v1/_service/llm/v1/chat/completions";
      expect((await cluster.post(nobody, chat())).status).toBe(404);
      for (let i = 0; i < 6; i += 1) {
        const response = await cluster.post("/v1/chat/completions", chat({ backend: "sglang" }));
        expect(await response.json()).toEqual({ from: "b" });
      }
      // SGLang's requests are named, so that they can be taken back by name.
      const sent = b.seen.at(-1)?.body.replace(/^\{"rid":"[0-9a-f]{32}",/, "{");
      expect(sent?.replace(/ +\}$/, "}")).toBe(JSON.stringify(chat()));
      const wrong = await cluster.post("/v1/chat/completions", chat({ backend: "x" }));
      expect(await wrong.json()).toMatchObject({ error: { param: "backend" } });
    },
  },
];

export const ROUTE_LINES: readonly Line[] = [...SDKS, ...RAW, ...FORMS];
