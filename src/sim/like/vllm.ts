/** vLLM: its routes, its log, and its way of saying no. */

import {
  emptyAnswer,
  healthRoute,
  jsonRoute,
  metricsRoute,
  openAiRoute,
  type Received,
} from "../api/handle.ts";
import { modelOf } from "../core/body.ts";
import { cleanLine } from "../../util/text.ts";
import type { LogLine } from "../core/load.ts";
import { messagesRoutes } from "../api/messages.ts";
import { detokenizeRequest, tokenizeRequest } from "../core/prompt.ts";
import { failureOf, frameworkAnswer } from "../core/refuse.ts";
import { responsesRoute } from "../api/responses.ts";
import {
  type Dialect,
  findExactly,
  ORDINARY,
  type RouteTable,
  type Served,
} from "../api/dialect.ts";
import { decodeTokens } from "../core/text.ts";
import { embeddingsRoute } from "../api/embeddings.ts";
import { mediaRoutes } from "../api/media.ts";
import { vllmMetrics } from "./vllm-metrics.ts";
import { poolingRoutes } from "../api/pooling.ts";
import { modelCards } from "../api/cards.ts";
import { vllmError, vllmStyle, vllmUsage } from "./vllm-style.ts";

/** What `owned_by` says, so that this engine is not taken for a real one. */
const OWNER = "llmnode-sim";

const VERSION = "0.11.0+llmnode.sim";

export const vllm: Dialect = {
  ...ORDINARY,
  loadLines,
  readyLines: (address) => [
    `Starting vLLM server on http://${address}`,
    "Application startup complete.",
  ],
  hasAdapters: true,
  find: findExactly,
  failure,
  routes,
  adminRoutes: [
    "POST /sleep",
    "POST /wake_up",
    "GET /is_sleeping",
    "POST /collective_rpc",
    "POST /pause",
    "POST /update_weights",
    "POST /reset_prefix_cache",
    "POST /start_profile",
    "POST /v1/load_lora_adapter",
    "POST /v1/unload_lora_adapter",
    "POST /scale_elastic_ep",
  ],
};

function routes(served: Served): RouteTable {
  const { options, createdAt } = served;
  const health = healthRoute(served, emptyAnswer);
  return {
    "/health": { GET: health },
    "/ping": { GET: health, POST: health },
    "/version": { GET: () => Response.json({ version: VERSION }) },
    "/metrics": { GET: metricsRoute(() => vllmMetrics(served.metrics)) },
    "/v1/models": {
      GET: () =>
        Response.json(modelCards(options, { createdAt, owner: OWNER, extras: permission })),
    },
    "/v1/chat/completions": { POST: openAiRoute(served, { kind: "chat", style: vllmStyle }) },
    "/v1/completions": { POST: openAiRoute(served, { kind: "completion", style: vllmStyle }) },
    "/v1/embeddings": {
      POST: embeddingsRoute(served, {
        usage: vllmUsage,
        extras: (id) => ({ id: `embd-${id}`, created: Math.floor(Date.now() / 1000) }),
      }),
    },
    "/v1/responses": { POST: responsesRoute(served) },
    ...messagesRoutes(served, { nameOf: (error) => vllmError(error).type }),
    ...poolingRoutes(served, {
      rerank: ["/rerank", "/v1/rerank", "/v2/rerank"],
      score: ["/score", "/v1/score"],
      classify: ["/classify"],
      pooling: ["/pooling"],
    }),
    ...mediaRoutes(served),
    "/tokenize": { POST: jsonRoute(served, (received) => tokenize(received, served)) },
    "/detokenize": { POST: jsonRoute(served, (received) => detokenize(received, served)) },
  };
}

function tokenize({ body }: Received, { serving }: Served): object {
  modelOf(body, serving);
  const tokens = tokenizeRequest(body);
  const strings = body["return_token_strs"] === true;
  return {
    count: tokens.length,
    max_model_len: serving.maxModelLen,
    tokens,
    token_strs: strings ? tokens.map((id) => decodeTokens([id])) : null,
  };
}

function detokenize({ body }: Received, { serving }: Served): object {
  modelOf(body, serving);
  return { prompt: decodeTokens(detokenizeRequest(body)) };
}

function permission(id: string, created: number): object {
  return {
    permission: [
      {
        id: `modelperm-${Bun.hash.xxHash64(id).toString(16).padStart(32, "0")}`,
        object: "model_permission",
        created,
        allow_create_engine: false,
        allow_sampling: true,
        allow_logprobs: true,
        allow_search_indices: false,
        allow_view: true,
        allow_fine_tuning: false,
        organization: "*",
        group: null,
        is_blocking: false,
      },
    ],
  };
}

function failure(error: unknown): Response {
  const failed = failureOf(error);
  return (
    frameworkAnswer(failed) ?? Response.json({ error: vllmError(error) }, { status: failed.status })
  );
}

/** The lines of a load that takes `loadTimeMs`, in order (texts: vLLM's and tqdm's). */
export function loadLines(name: string, loadTimeMs: number): LogLine[] {
  const seconds = (share: number) => ((loadTimeMs * share) / 1000).toFixed(2);
  const model = cleanLine(name, 200);
  const shards = 5;
  const loading = Array.from({ length: shards + 1 }, (_, done) => ({
    at: 0.05 + 0.1 * done,
    text: `Loading safetensors checkpoint shards: ${String((100 * done) / shards).padStart(3)}% Completed | ${done}/${shards}`,
  }));
  const capturing = [0, 25, 50, 75, 100].map((percent) => ({
    at: 0.8 + 0.0015 * percent,
    text: `Capturing CUDA graphs (mixed prefill-decode, PIECEWISE): ${String(percent).padStart(3)}%`,
  }));
  return [
    { at: 0, text: `Starting to load model ${model}...` },
    ...loading,
    { at: 0.56, text: `Loading weights took ${seconds(0.5)} seconds` },
    { at: 0.58, text: `Model loading took 0.00 GiB memory and ${seconds(0.53)} seconds` },
    { at: 0.6, text: `Dynamo bytecode transform time: ${seconds(0.08)} s` },
    { at: 0.76, text: `Compiling a graph for compile range (1, 2048) takes ${seconds(0.1)} s` },
    { at: 0.78, text: "Available KV cache memory: 0.00 GiB" },
    ...capturing,
    { at: 0.97, text: `Graph capturing finished in ${seconds(0.15)} secs, took 0.00 GiB` },
    {
      at: 1,
      text: `init engine (profile, create kv cache, warmup model) took ${seconds(1)} s (simulated)`,
    },
  ];
}
