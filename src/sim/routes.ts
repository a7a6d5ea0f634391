/** What the engine's port answers: one function from a request to its answer. */

import { LlmnodeError } from "../protocol/errors.ts";
import { embeddingAnswer, streamAnswer, wholeAnswer, type AnswerContext } from "./answer.ts";
import { maybeFail } from "./faults.ts";
import type { Engine } from "./generate.ts";
import { renderMetrics, type ModelMetrics } from "./metrics.ts";
import { isIdList, tokenizeRequest } from "./prompt.ts";
import { modelOf, readBody, readEmbedding, readGeneration } from "./request.ts";
import { decodeTokens } from "./text.ts";
import { errorResponse, invalidField, modelsBody, VERSION, type AnswerKind } from "./vllm.ts";

/** The longest `x-request-id` that becomes the id of an answer. */
const MAX_ID_CHARS = 200;

type Route = (req: Request) => Response | Promise<Response>;

interface RouteTable {
  [path: string]: { GET?: Route; POST?: Route };
}

export interface Served {
  engine: Engine;
  metrics: ReadonlyMap<string, ModelMetrics>;
  /** When the engine was ready, in seconds since the epoch. */
  createdAt: number;
}

/** Never throws: what fails becomes an answer in vLLM's shape. */
export function createHandler(served: Served): (req: Request) => Promise<Response> {
  const table = routes(served);
  return async (req) => {
    try {
      const { pathname } = new URL(req.url);
      const methods = Object.hasOwn(table, pathname) ? table[pathname] : undefined;
      if (!methods) throw new LlmnodeError("unknown_url", `no such path: ${pathname}`);
      const route = req.method === "GET" || req.method === "POST" ? methods[req.method] : undefined;
      if (!route) {
        throw new LlmnodeError("method_not_allowed", `${req.method} is not allowed here`, {
          allow: Object.keys(methods).join(", "),
        });
      }
      return await route(req);
    } catch (error) {
      return errorResponse(error);
    }
  };
}

function routes({ engine, metrics, createdAt }: Served): RouteTable {
  const serving = engine.options;

  const generation = (kind: AnswerKind) => async (req: Request) => {
    const body = await readBody(req);
    const context = answerContext(req, engine);
    const request = readGeneration(kind, { body, id: answerId(req) }, serving);
    maybeFail(engine.options);
    return request.stream ? streamAnswer(request, context) : wholeAnswer(request, context);
  };

  const embeddings = async (req: Request) => {
    const body = await readBody(req);
    const context = answerContext(req, engine);
    const request = readEmbedding({ body, id: answerId(req) }, serving);
    maybeFail(engine.options);
    return embeddingAnswer(request, context);
  };

  const tokenize = async (req: Request) => {
    const body = await readBody(req);
    modelOf(body, serving);
    const tokens = tokenizeRequest(body);
    const strings = body["return_token_strs"] === true;
    return Response.json({
      count: tokens.length,
      max_model_len: serving.maxModelLen,
      tokens,
      token_strs: strings ? tokens.map((id) => decodeTokens([id])) : null,
    });
  };

  const detokenize = async (req: Request) => {
    const body = await readBody(req);
    modelOf(body, serving);
    const tokens = body["tokens"];
    if (!Array.isArray(tokens) || !isIdList(tokens)) {
      throw invalidField("tokens", "list_type", "Input should be a valid list of token ids");
    }
    return Response.json({ prompt: decodeTokens(tokens) });
  };

  const healthy = () => new Response(null, { status: 200 });
  return {
    "/health": { GET: healthy },
    "/ping": { GET: healthy, POST: healthy },
    "/version": { GET: () => Response.json({ version: VERSION }) },
    "/metrics": {
      GET: () =>
        new Response(renderMetrics(metrics), {
          headers: { "content-type": "text/plain; version=0.0.4; charset=utf-8" },
        }),
    },
    "/v1/models": {
      GET: () => Response.json(modelsBody(serving.models, createdAt, serving.maxModelLen)),
    },
    "/v1/chat/completions": { POST: generation("chat") },
    "/v1/completions": { POST: generation("completion") },
    "/v1/embeddings": { POST: embeddings },
    "/tokenize": { POST: tokenize },
    "/detokenize": { POST: detokenize },
  };
}

function answerContext(req: Request, engine: Engine): AnswerContext {
  return { engine, receivedAt: performance.now(), signal: req.signal };
}

/** Like vLLM, the id of an answer is made of the caller's `x-request-id` if there is one. */
function answerId(req: Request): string {
  const given = req.headers.get("x-request-id");
  return given ? given.slice(0, MAX_ID_CHARS) : crypto.randomUUID().replaceAll("-", "");
}
