/** SGLang: its routes, its log, its flat errors and its slow health check. */

import { cleanLine } from "../../util/text.ts";
import type { GenerationJob } from "../api/answer.ts";
import { flag, integer, modelOf, objectIn } from "../core/body.ts";
import {
  emptyAnswer,
  generationRoute,
  healthRoute,
  jsonRoute,
  metricsRoute,
  openAiRoute,
  type Received,
} from "../api/handle.ts";
import type { LogLine } from "../core/load.ts";
import { messagesRoutes } from "../api/messages.ts";
import { detokenizeRequest, isIdList, promptList, tokenizeRequest } from "../core/prompt.ts";
import { failureOf, frameworkAnswer, pythonError } from "../core/refuse.ts";
import { plainRequest } from "../core/request.ts";
import { responsesRoute } from "../api/responses.ts";
import {
  type Dialect,
  findAnything,
  ORDINARY,
  type RouteTable,
  type Served,
} from "../api/dialect.ts";
import { decodeTokens } from "../core/text.ts";
import { dataFrame, DONE, SSE, type FinishReason, type Wire } from "../wire/wire.ts";
import { askedModel, cardList, modelCards } from "../api/cards.ts";
import { embeddingsRoute } from "../api/embeddings.ts";
import { poolingRoutes } from "../api/pooling.ts";
import { modelInfo, serverInfo, sglangLoads, sglangMetrics } from "./sglang-load.ts";
import { sglangError, sglangStyle } from "./sglang-style.ts";
import { transcriptionRoute } from "../api/media.ts";

const OWNER = "sglang";

export const sglang: Dialect = {
  ...ORDINARY,
  loadLines,
  // The warm-up: the port is open, the health check refuses, the rest answers.
  opensAt: 0.9,
  readyLines: (address) => [
    `Uvicorn running on http://${address} (Press CTRL+C to quit)`,
    "The server is fired up and ready to roll!",
  ],
  whileLoading: (path) => (path.startsWith("/health") ? new Response(null, { status: 503 }) : null),
  headers: { server: "uvicorn" },
  // It generates a token each time and waits for it in steps of a second.
  healthTimeMs: 1000,
  hasAdapters: true,
  find: (named, models) =>
    findAnything(named.includes(":") ? named.slice(named.lastIndexOf(":") + 1) : named, models),
  failure: (error) => {
    const failed = failureOf(error);
    return frameworkAnswer(failed) ?? Response.json(sglangError(error), { status: failed.status });
  },
  routes,
  adminRoutes: [
    "GET /flush_cache",
    "POST /flush_cache",
    "POST /release_memory_occupation",
    "POST /resume_memory_occupation",
    "POST /update_weights_from_disk",
    "POST /update_weights_from_distributed",
    "POST /update_weights_from_tensor",
    "POST /abort_request",
    "POST /set_internal_state",
    "POST /load_lora_adapter",
    "POST /unload_lora_adapter",
    "POST /start_profile",
    "POST /stop_profile",
  ],
};

function routes(served: Served): RouteTable {
  const { options, createdAt, metrics } = served;
  const health = healthRoute(served, emptyAnswer);
  const tokenize = {
    POST: jsonRoute(served, ({ body }) => {
      const tokens = tokenizeRequest(body);
      return { tokens, count: tokens.length, max_model_len: options.maxModelLen };
    }),
  };
  const generate = {
    POST: generationRoute(served, (received) => readGenerate(received, served)),
    failure: (error: unknown) =>
      Response.json(nativeError(error), { status: failureOf(error).status }),
  };
  const cards = { createdAt, owner: OWNER };
  return {
    "/": { GET: () => new Response("SGLang is running") },
    "/health": { GET: health },
    "/health_generate": { GET: health },
    "/ping": { GET: emptyAnswer },
    "/metrics": { GET: metricsRoute(() => sglangMetrics(metrics)) },
    "/v1/loads": { GET: () => Response.json(sglangLoads(metrics, served.options)) },
    "/model_info": { GET: () => Response.json(modelInfo(options)) },
    "/get_model_info": { GET: () => Response.json(modelInfo(options)) },
    "/server_info": { GET: () => Response.json(serverInfo(options)) },
    "/v1/models": { GET: () => Response.json(modelCards(options, cards)) },
    "/v1/models/*": {
      GET: (req) => {
        const id = askedModel(req);
        const found = cardList(options, cards).find((card) => card.id === id);
        if (found) return Response.json(found);
        const error = { message: `The model '${id}' does not exist`, param: "model" };
        const kind = { type: "invalid_request_error", code: "model_not_found" };
        return Response.json({ error: { ...error, ...kind } }, { status: 404 });
      },
    },
    "/v1/chat/completions": { POST: openAiRoute(served, { kind: "chat", style: sglangStyle }) },
    "/v1/completions": { POST: openAiRoute(served, { kind: "completion", style: sglangStyle }) },
    "/v1/embeddings": { POST: embeddingsRoute(served) },
    "/v1/responses": { POST: responsesRoute(served) },
    ...messagesRoutes(served, { nameOf: (error) => pythonError(error).type }),
    ...poolingRoutes(served, {
      rerank: ["/v1/rerank"],
      score: ["/v1/score"],
      classify: ["/v1/classify"],
    }),
    "/v1/audio/transcriptions": { POST: transcriptionRoute(served) },
    "/generate": generate,
    "/tokenize": tokenize,
    "/v1/tokenize": tokenize,
    "/detokenize": {
      POST: jsonRoute(served, ({ body }) => ({ text: decodeTokens(detokenizeRequest(body)) })),
    },
  };
}

/** `/generate`: `text` or `input_ids`, one or several; `max_new_tokens` is taken at its word. */
function readGenerate({ body, id }: Received, { serving }: Served): GenerationJob {
  const { model } = modelOf({}, serving);
  const given = body["text"] ?? body["input_ids"];
  const prompts = promptList(given, "text");
  const maxTokens = integer(objectIn(body, "sampling_params"), "max_new_tokens");
  const several = Array.isArray(given) && !isIdList(given);
  return {
    generation: plainRequest({ model, prompts, maxTokens, stream: flag(body, "stream") }, serving),
    wire: generateWire(
      id,
      prompts.map((prompt) => prompt.tokens),
      several,
    ),
  };
}

/** Each event says all the text so far. */
function generateWire(id: string, promptTokens: readonly number[], several: boolean): Wire {
  const texts = promptTokens.map(() => "");
  const counts = promptTokens.map(() => 0);
  let cachedTokens = 0;
  const state = (choice: number, reason: FinishReason | null) => ({
    ...(several ? { index: choice } : {}),
    text: texts[choice] ?? "",
    output_ids: [],
    meta_info: {
      id: several ? `${id}_${choice}` : id,
      finish_reason: reason && reasonOf(reason, counts[choice] ?? 0),
      prompt_tokens: promptTokens[choice] ?? 0,
      weight_version: "default",
      completion_tokens: counts[choice] ?? 0,
      cached_tokens: cachedTokens,
    },
  });
  return {
    contentType: SSE,
    begin(cached) {
      cachedTokens = cached ?? 0;
    },
    token(choice, text) {
      texts[choice] = (texts[choice] ?? "") + text;
      counts[choice] = (counts[choice] ?? 0) + 1;
      return dataFrame(state(choice, null));
    },
    finish: (choice, reason) => dataFrame(state(choice, reason)),
    end: (_, noDone) => (noDone ? "" : DONE),
    error: (error, noDone) => dataFrame(nativeError(error)) + (noDone ? "" : DONE),
    whole(choices, { produced, cachedTokens: cached }) {
      cachedTokens = cached ?? 0;
      const bodies = choices.map(({ text, reason }, choice) => {
        texts[choice] = text;
        counts[choice] = produced[choice] ?? 0;
        return state(choice, reason);
      });
      return several ? bodies : (bodies[0] ?? {});
    },
  };
}

function reasonOf(reason: FinishReason, length: number): object {
  if (reason === "length") return { type: "length", length };
  if (reason === "abort") return { type: "abort", message: "Aborted" };
  return { type: "stop", matched: 0 };
}

/** What `/generate` says about a failure, alone and in a stream. */
function nativeError(error: unknown): object {
  return { error: { message: pythonError(error).message } };
}

/** Texts: SGLang's scheduler and model runner. */
function loadLines(name: string, loadTimeMs: number): LogLine[] {
  const seconds = (share: number) => ((loadTimeMs * share) / 1000).toFixed(2);
  const loading = [0, 25, 50, 75, 100].map((percent) => ({
    at: 0.1 + 0.005 * percent,
    text: `Loading safetensors checkpoint shards: ${String(percent).padStart(3)}% Completed | ${percent / 25}/4`,
  }));
  return [
    { at: 0, text: `server_args=ServerArgs(model_path='${cleanLine(name, 200)}', ...)` },
    { at: 0.05, text: "Load weight begin. avail mem=0.00 GB" },
    ...loading,
    { at: 0.62, text: `Load weight end. elapsed=${seconds(0.57)} s, mem usage=0.00 GB.` },
    { at: 0.65, text: "KV Cache is allocated. #tokens: 1048576" },
    { at: 0.7, text: "Capturing batches (bs=1 avail_mem=0.00 GB): 100%" },
    { at: 0.88, text: "max_total_num_tokens=1048576, available_gpu_mem=0.00 GB" },
    { at: 1, text: "tp_rank=0 is ready" },
  ];
}
