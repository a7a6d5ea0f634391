/** Route handlers that dialects share: read the body, let faults strike, answer. */

import { streamAnswer, wholeAnswer, type GenerationJob, type AnswerContext } from "./answer.ts";
import { readBody, type JsonObject } from "../core/body.ts";
import { maybeFail } from "../core/faults.ts";
import type { Route, Served } from "./dialect.ts";
import { readGeneration } from "../core/request.ts";
import { openAiWire, type AnswerKind, type OpenAiStyle } from "../wire/openai.ts";
import { sleep } from "../../util/sleep.ts";

/** The longest `x-request-id` that becomes the id of an answer. */
const MAX_ID_CHARS = 200;

/** A request's body and what comes with it. */
export interface Received {
  body: JsonObject;
  /** For the answer; made of the caller's `x-request-id` if there is one, as by vLLM. */
  id: string;
  context: AnswerContext;
}

export interface HandleOptions {
  /** Whether a body that is not labelled JSON is refused. Default: yes. */
  strictType?: boolean;
  /** Before an answer is begun: what may take time, such as loading the model. */
  prepare?: (model: string, signal: AbortSignal) => Promise<unknown>;
}

/** Any route with a JSON body. */
export function jsonRoute(
  served: Served,
  answer: (received: Received) => object | Promise<object>,
  { strictType = true }: HandleOptions = {},
): Route {
  return async (req) => {
    const body = await readBody(req, strictType);
    const given = req.headers.get("x-request-id");
    const id = given ? given.slice(0, MAX_ID_CHARS) : crypto.randomUUID().replaceAll("-", "");
    const context = { engine: served.engine, receivedAt: performance.now(), signal: req.signal };
    const answered = await answer({ body, id, context });
    return answered instanceof Response ? answered : Response.json(answered);
  };
}

/** A route of the model: the share of `errorRate` fails once the body is found to be good. */
export function inferenceRoute<T>(
  served: Served,
  read: (received: Received) => T,
  answer: (asked: T, context: AnswerContext) => object | Promise<object>,
  options: HandleOptions = {},
): Route {
  return jsonRoute(
    served,
    async (received) => {
      const asked = read(received);
      maybeFail(served.options);
      return answer(asked, received.context);
    },
    options,
  );
}

/** A route that generates text, streamed or whole as asked. */
export function generationRoute(
  served: Served,
  read: (received: Received) => GenerationJob,
  options: HandleOptions = {},
): Route {
  return inferenceRoute(
    served,
    read,
    async (asked, context) => {
      if (!options.prepare) return respond(asked, context);
      await options.prepare(asked.generation.model, context.signal);
      return respond(asked, { ...context, receivedAt: performance.now() });
    },
    options,
  );
}

export function respond(
  asked: GenerationJob,
  context: AnswerContext,
): Response | Promise<Response> {
  return asked.generation.stream ? streamAnswer(asked, context) : wholeAnswer(asked, context);
}

/** OpenAI's chat or completions in the manner of an engine. */
export function openAiRoute(
  served: Served,
  { kind, style }: { kind: AnswerKind; style: OpenAiStyle },
  options: HandleOptions = {},
): Route {
  const read = ({ body, id }: Received): GenerationJob => {
    const request = readGeneration(kind, { body, id: style.id(kind, id) }, served.serving);
    return {
      generation: request.generation,
      wire: openAiWire(request.head, style, request.wanted),
    };
  };
  return generationRoute(served, read, options);
}

/** A health check that takes its time. */
export function healthRoute(served: Served, answer: () => Response): Route {
  return async (req) => {
    if (served.healthTimeMs > 0) await sleep(served.healthTimeMs, req.signal);
    return answer();
  };
}

export function emptyAnswer(): Response {
  return new Response(null, { status: 200 });
}

export function metricsRoute(render: () => string): Route {
  return () =>
    new Response(render(), {
      headers: { "content-type": "text/plain; version=0.0.4; charset=utf-8" },
    });
}
