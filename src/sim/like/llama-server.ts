/** llama.cpp's server: it binds first and says "Loading model", and tells its timings. */

import { cleanLine } from "../../util/text.ts";
import type { GenerationJob } from "../api/answer.ts";
import { flag, integer, modelOf, text } from "../core/body.ts";
import { embed, readEmbedding } from "../api/embed.ts";
import {
  generationRoute,
  healthRoute,
  inferenceRoute,
  jsonRoute,
  metricsRoute,
  openAiRoute,
  type Received,
} from "../api/handle.ts";
import type { LogLine } from "../core/load.ts";
import { anthropicName, messagesRoutes } from "../api/messages.ts";
import { chatPrompt, detokenizeRequest, promptList, tokensOf } from "../core/prompt.ts";
import { failureOf } from "../core/refuse.ts";
import { plainRequest } from "../core/request.ts";
import { responsesRoute } from "../api/responses.ts";
import {
  type Dialect,
  findAnything,
  ORDINARY,
  type RouteTable,
  type Served,
} from "../api/dialect.ts";
import { decodeTokens, encodeTokens } from "../core/text.ts";
import { embeddingsRoute } from "../api/embeddings.ts";
import { llamaMetrics, modelList, props, slots, SLOTS, slotsOf } from "./llama-server-info.ts";
import { completionWire, llamaError, llamaStyle } from "./llama-server-style.ts";
import { poolingRoutes } from "../api/pooling.ts";
import { transcriptionRoute } from "../api/media.ts";

export const llamaServer: Dialect = {
  ...ORDINARY,
  loadLines,
  opensAt: 0,
  readyLines: (address) => [`listening on http://${address}`, "all slots are idle"],
  whileLoading: () =>
    Response.json(
      { error: { message: "Loading model", type: "unavailable_error", code: 503 } },
      { status: 503 },
    ),
  headers: { server: "llama.cpp" },
  keepAliveMs: 30_000,
  cutsAtStop: true,
  find: findAnything,
  failure: (error) => {
    const { status } = failureOf(error);
    return Response.json({ error: llamaError(error) }, { status });
  },
  routes,
  adminRoutes: [
    "POST /models/load",
    "POST /models/unload",
    "POST /slots/*",
    "POST /lora-adapters",
    "POST /props",
    "POST /cors-proxy",
  ],
};

function routes(served: Served): RouteTable {
  const { options, engine } = served;
  const lenient = { strictType: false };
  const health = { GET: healthRoute(served, () => Response.json({ status: "ok" })) };
  const models = { GET: () => Response.json(modelList(served)) };
  const chat = { POST: openAiRoute(served, { kind: "chat", style: llamaStyle }, lenient) };
  const completion = {
    POST: generationRoute(served, (received) => readCompletion(received, served), lenient),
  };
  const embedding = {
    POST: inferenceRoute(
      served,
      ({ body, id }) => readEmbedding({ body, id }, served.serving, "content"),
      async (request, context) =>
        (await embed(request, context)).map((vector, index) => ({
          index,
          embedding: [[...vector]],
        })),
      lenient,
    ),
  };
  return {
    "/health": health,
    "/v1/health": health,
    "/models": models,
    "/v1/models": models,
    "/props": { GET: () => Response.json(props(served)) },
    "/slots": {
      GET: (req) => {
        const busy = engine.running.size;
        const wantsOne = new URL(req.url).searchParams.get("fail_on_no_slot") === "1";
        if (!wantsOne || busy < slotsOf(options)) return Response.json(slots(busy, options));
        const error = { code: 503, message: "no slot available", type: "unavailable_error" };
        return Response.json({ error }, { status: 503 });
      },
    },
    "/metrics": { GET: metricsRoute(() => llamaMetrics(served.metrics, slotsOf(options))) },
    "/chat/completions": chat,
    "/v1/chat/completions": chat,
    "/v1/completions": {
      POST: openAiRoute(served, { kind: "completion", style: llamaStyle }, lenient),
    },
    "/completion": completion,
    "/completions": completion,
    "/v1/responses": { POST: responsesRoute(served, lenient) },
    ...messagesRoutes(served, { nameOf: anthropicName, ...lenient }),
    "/v1/embeddings": { POST: embeddingsRoute(served, lenient) },
    "/embedding": embedding,
    "/embeddings": embedding,
    ...poolingRoutes(served, { rerank: ["/rerank", "/v1/rerank", "/reranking"] }),
    "/v1/audio/transcriptions": { POST: transcriptionRoute(served) },
    "/apply-template": {
      POST: jsonRoute(served, ({ body }) => ({ prompt: chatPrompt(body).text }), lenient),
    },
    "/tokenize": { POST: jsonRoute(served, tokenize, lenient) },
    "/detokenize": {
      POST: jsonRoute(
        served,
        ({ body }) => {
          const ids = detokenizeRequest(body, "tokens must be a list of token ids");
          return { content: decodeTokens(ids) };
        },
        lenient,
      ),
    },
  };
}

function tokenize({ body }: Received): object {
  const tokens = encodeTokens(text(body, "content"));
  if (body["with_pieces"] !== true) return { tokens };
  return { tokens: tokens.map((id) => ({ id, piece: decodeTokens([id]) })) };
}

/** `n_predict` is taken at its word; below 0 or without it the answer ends by itself. */
function readCompletion({ body }: Received, { serving }: Served): GenerationJob {
  const { named, model } = modelOf(body, serving);
  const prompts = promptList(body["prompt"], "prompt").slice(0, 1);
  const limit = integer(body, "n_predict", -2) ?? -1;
  const maxTokens = limit > 0 ? limit : null;
  const promptTokens = tokensOf(prompts);
  return {
    generation: plainRequest({ model, prompts, maxTokens, stream: flag(body, "stream") }, serving),
    wire: completionWire({ model: named, promptTokens, prompt: prompts[0]?.text ?? "" }),
  };
}

/** Texts: llama.cpp's tools/server. */
function loadLines(name: string): LogLine[] {
  return [
    { at: 0, text: "system info: n_threads = 1 (simulated)" },
    { at: 0, text: `loading model '${cleanLine(name, 200)}'` },
    { at: 0.8, text: `initializing, n_slots = ${SLOTS}` },
    { at: 1, text: "model loaded" },
  ];
}
