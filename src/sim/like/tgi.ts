/** Text Generation Inference: its routes, its log, its errors with an `error_type`. */

import type { GenerationJob } from "../api/answer.ts";
import { flag, integer, modelOf, objectIn, text } from "../core/body.ts";
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
import { cleanLine } from "../../util/text.ts";
import { chatPrompt, textPrompt } from "../core/prompt.ts";
import { failureOf, FieldError, plainMessage } from "../core/refuse.ts";
import { plainRequest } from "../core/request.ts";
import {
  type Dialect,
  findAnything,
  ORDINARY,
  type RouteTable,
  type Served,
} from "../api/dialect.ts";
import { decodeTokens, encodeTokens } from "../core/text.ts";
import { generateWire, tgiError, tgiStatus, tgiStyle, VERSION, tgiMetrics } from "./tgi-style.ts";

const MAX_CONCURRENT = 128;

export const tgi: Dialect = {
  ...ORDINARY,
  loadLines,
  // The router's own last line does not say where it listens.
  readyLines: (address) => [`listening on http://${address}`, "Connected"],
  // axum's default.
  keepAliveMs: 15_000,
  cutsAtStop: true,
  find: findAnything,
  failure,
  routes,
  adminRoutes: [],
};

function routes(served: Served): RouteTable {
  const { options } = served;
  const health = { GET: healthRoute(served, emptyAnswer) };
  const generate = (stream: boolean | null, listed: boolean) => ({
    POST: generationRoute(served, (received) => readGenerate(received, served, { stream, listed })),
  });
  return {
    "/health": health,
    "/ping": health,
    "/": { ...health, ...generate(null, true) },
    "/generate": generate(false, false),
    "/generate_stream": generate(true, false),
    "/info": { GET: () => Response.json(info(served)) },
    "/metrics": { GET: metricsRoute(() => tgiMetrics(served.metrics)) },
    "/v1/models": {
      GET: () =>
        Response.json({
          object: "list",
          data: options.models.map((id) => ({ id, object: "model", created: 0, owned_by: id })),
        }),
    },
    "/v1/chat/completions": { POST: openAiRoute(served, { kind: "chat", style: tgiStyle }) },
    "/v1/completions": { POST: openAiRoute(served, { kind: "completion", style: tgiStyle }) },
    "/tokenize": { POST: jsonRoute(served, ({ body }) => tokenList(text(body, "inputs"))) },
    "/chat_tokenize": {
      POST: jsonRoute(served, ({ body }) => {
        const prompt = chatPrompt(body).text;
        return { tokenize_response: tokenList(prompt), templated_text: prompt };
      }),
    },
  };
}

function info({ options }: Served): object {
  return {
    model_id: options.models[0],
    model_sha: null,
    model_pipeline_tag: "text-generation",
    max_concurrent_requests: MAX_CONCURRENT,
    max_best_of: 2,
    max_stop_sequences: 4,
    max_input_tokens: options.maxModelLen - 1,
    max_total_tokens: options.maxModelLen,
    validation_workers: 2,
    max_client_batch_size: 4,
    router: "text-generation-router",
    version: VERSION,
    sha: null,
    docker_label: null,
  };
}

/** Where in the text each token stands. */
function tokenList(prompt: string): object[] {
  let start = 0;
  return encodeTokens(prompt).map((id) => {
    const part = decodeTokens([id]);
    const token = { id, text: part, start, stop: start + part.length };
    start = token.stop;
    return token;
  });
}

interface GenerateRoute {
  /** Null: as the body says. */
  stream: boolean | null;
  /** Whether the answer comes in a list, as on `/`. */
  listed: boolean;
}

/** `max_new_tokens` is taken at its word; without it the answer ends by itself. */
function readGenerate(
  { body }: Received,
  { serving }: Served,
  { stream, listed }: GenerateRoute,
): GenerationJob {
  const { model } = modelOf({}, serving);
  const prompt = textPrompt(text(body, "inputs"));
  const parameters = objectIn(body, "parameters");
  const maxTokens = integer(parameters, "max_new_tokens");
  const asked = { model, prompts: [prompt], maxTokens, stream: stream ?? flag(body, "stream") };
  const generation = plainRequest(asked, serving);
  const [choice] = generation.choices;
  return {
    generation,
    wire: generateWire({
      promptTokens: prompt.tokens,
      length: choice?.length ?? 0,
      reason: choice?.reason ?? "stop",
      // A stream's last event tells them in any case.
      details: flag(parameters, "details"),
      startsWith: flag(parameters, "return_full_text") ? prompt.text : "",
      listed,
    }),
  };
}

function failure(error: unknown): Response {
  const { code, allow, message } = failureOf(error);
  // axum's own answers have no JSON.
  if (code === "unknown_url") return new Response(null, { status: 404 });
  if (code === "method_not_allowed") return new Response(null, { status: 405, headers: { allow } });
  if (code === "not_supported") {
    const wanted = "Expected request with `Content-Type: application/json`";
    return new Response(wanted, { status: 415 });
  }
  if (error instanceof FieldError) {
    if (error.fault === "json_invalid") {
      return new Response(`Failed to parse the request body as JSON: ${message}`, { status: 400 });
    }
    const why = `Failed to deserialize the JSON body into the target type: ${plainMessage(error)}`;
    return new Response(why, { status: 422 });
  }
  return Response.json(tgiError(error), { status: tgiStatus(error) });
}

/** Texts: the launcher's and the router's. */
function loadLines(name: string): LogLine[] {
  const model = cleanLine(name, 200);
  return [
    { at: 0, text: "Args {" },
    { at: 0, text: `Starting check and download process for ${model}` },
    { at: 0.2, text: `Successfully downloaded weights for ${model}` },
    { at: 0.22, text: "Starting shard" },
    { at: 0.5, text: "Waiting for shard to be ready..." },
    { at: 0.7, text: "Shard ready" },
    { at: 0.72, text: "Starting Webserver" },
    { at: 0.75, text: "Warming up model" },
    { at: 0.9, text: "Cuda Graphs are enabled for sizes [32, 16, 8, 4, 2, 1]" },
    { at: 1, text: "Setting max batch total tokens to 1048576" },
  ];
}
