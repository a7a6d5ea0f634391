/** The requests that engines answer: by allow-list, so that their administration is never reached. */

import { RESPONSES_PATH, responseIn } from "./origin.ts";

/**
 * How a client of a route expects errors, usage and streams to look. `tgi` and `engine` are routes
 * of the engines' own, whose bodies need not name a model: the engine has only one.
 */
export type Dialect = "openai" | "responses" | "anthropic" | "ollama" | "tgi" | "engine";

export interface Route {
  /** At the engine, and at the head. */
  path: string;
  method: "POST" | "GET" | "DELETE";
  dialect: Dialect;
  /** What it does, by OpenTelemetry's names for `gen_ai.operation.name` where there is one. */
  operation: string;
  body: "json" | "multipart" | "none";
  /** Whether a stream may be asked for usage by `stream_options`. */
  asksUsage: boolean;
  /** The engine kinds that have it, beside those of `OPEN_KINDS`; null: any may. */
  kinds: readonly string[] | null;
}

/** Kinds that may be anything: they are asked, and say themselves what they do not know. */
export const OPEN_KINDS: readonly string[] = ["generic", "sim"];

const CHAT = ["vllm", "sglang", "tgi", "ollama", "llama-server", "trtllm", "lmdeploy", "dynamo"];
const RESPONSES = ["vllm", "sglang", "ollama", "llama-server", "trtllm", "lmdeploy"];
const EMBEDDINGS = ["vllm", "sglang", "tei", "ollama", "llama-server", "trtllm", "dynamo"];
const MESSAGES = ["vllm", "sglang", "ollama", "llama-server", "lmdeploy", "trtllm"];
const COUNT = ["vllm", "sglang", "llama-server", "lmdeploy"];
const TRANSCRIPTIONS = ["vllm", "sglang", "ollama", "llama-server"];
const TOKENIZE = ["vllm", "sglang", "tgi", "tei", "llama-server"];

type Row = [path: string, operation: string, kinds: readonly string[] | null];

/** Source: the engines' own route lists, as of August 2026. */
const JSON_ROUTES: Partial<Record<Dialect, Row[]>> = {
  openai: [
    ["/v1/embeddings", "embeddings", EMBEDDINGS],
    ["/v1/audio/speech", "speech", null],
    ["/v1/images/generations", "image_generation", null],
    ["/v1/moderations", "moderation", null],
    ["/v1/rerank", "rerank", ["vllm", "sglang", "llama-server"]],
    ["/v2/rerank", "rerank", ["vllm"]],
    ["/v1/score", "score", ["vllm", "sglang"]],
    ["/v1/classify", "classify", ["sglang"]],
    ["/v1/tokenize", "tokenize", ["sglang"]],
    ["/v1/detokenize", "detokenize", ["sglang"]],
  ],
  responses: [["/v1/responses", "chat", RESPONSES]],
  anthropic: [
    ["/v1/messages", "chat", MESSAGES],
    ["/v1/messages/count_tokens", "count_tokens", COUNT],
  ],
  ollama: [
    ["/api/generate", "text_completion", ["ollama", "sglang"]],
    ["/api/chat", "chat", ["ollama", "sglang"]],
    ["/api/embed", "embeddings", ["ollama"]],
    ["/api/embeddings", "embeddings", ["ollama"]],
    ["/api/show", "show", ["ollama", "sglang"]],
  ],
  tgi: [["/generate_stream", "text_completion", ["tgi"]]],
  engine: [
    ["/generate", "text_completion", ["tgi", "sglang", "lmdeploy"]],
    ["/rerank", "rerank", ["vllm", "tei", "llama-server"]],
    ["/score", "score", ["vllm"]],
    ["/classify", "classify", ["vllm"]],
    ["/pooling", "pooling", ["vllm", "lmdeploy"]],
    ["/tokenize", "tokenize", TOKENIZE],
    ["/detokenize", "detokenize", ["vllm", "sglang", "llama-server"]],
  ],
};

const STREAMS: Row[] = [
  ["/v1/chat/completions", "chat", CHAT],
  ["/v1/completions", "text_completion", CHAT],
];

const MULTIPART: Row[] = [
  ["/v1/audio/transcriptions", "transcription", TRANSCRIPTIONS],
  ["/v1/audio/translations", "translation", ["vllm"]],
];

const READS: [Row, Dialect][] = [
  [["/info", "info", ["tgi", "tei"]], "tgi"],
  [["/api/version", "version", ["ollama"]], "ollama"],
];

/** Every route, by path. */
export const ROUTES: ReadonlyMap<string, Route> = new Map(
  [
    ...STREAMS.map((row) => routeOf(row, { dialect: "openai", asksUsage: true })),
    ...Object.entries(JSON_ROUTES).flatMap(([dialect, rows]) =>
      rows.map((row) => routeOf(row, { dialect: dialect as Dialect })),
    ),
    ...MULTIPART.map((row) => routeOf(row, { dialect: "openai", body: "multipart" })),
    ...READS.map(([row, dialect]) => routeOf(row, { dialect, method: "GET", body: "none" })),
  ].map((route) => [route.path, route]),
);

const BY_PATH: ReadonlyMap<string, readonly Route[]> = new Map(
  Array.from(ROUTES, ([path, route]) => [path, [route]]),
);

const RESPONSE = "/v1/responses/{id}";
/** What can be done with a response by its id, by what follows the id in the path. */
const BY_ID: ReadonlyMap<string, readonly Route[]> = new Map([
  ["", [byId(RESPONSE, "GET"), byId(RESPONSE, "DELETE")]],
  ["/cancel", [byId(`${RESPONSE}/cancel`, "POST")]],
  ["/input_items", [byId(`${RESPONSE}/input_items`, "GET")]],
]);

/** What the engines have at a path: a route for each method; empty: nothing. */
export function routesAt(pathname: string): readonly Route[] {
  const routes = BY_PATH.get(pathname);
  if (routes) return routes;
  const id = responseIn(pathname);
  return id === null
    ? []
    : (BY_ID.get(pathname.slice(RESPONSES_PATH.length + 1 + id.length)) ?? []);
}

function byId(path: string, method: Route["method"]): Route {
  const row: Row = [path, "response", RESPONSES];
  return routeOf(row, { dialect: "responses", method, body: "none" });
}

function routeOf(
  [path, operation, kinds]: Row,
  more: Partial<Route> & { dialect: Dialect },
): Route {
  return {
    path,
    operation,
    method: "POST",
    body: "json",
    asksUsage: false,
    kinds,
    ...more,
  };
}
