/** Ollama's own inference routes: `/api/generate`, `/api/chat`, `/api/embed`, `/api/embeddings`. */

import { flag, integer, modelOf, objectIn, text, type JsonObject } from "../core/body.ts";
import { embed, readEmbedding } from "../api/embed.ts";
import { maybeFail } from "../core/faults.ts";
import { inferenceRoute, jsonRoute, respond, type Received } from "../api/handle.ts";
import { chatPrompt, textPrompt } from "../core/prompt.ts";
import { plainRequest, type GenerationRequest } from "../core/request.ts";
import type { Route, Served } from "../api/dialect.ts";
import type { Memory } from "./ollama-models.ts";
import { nanoseconds, nativeWire } from "./ollama-style.ts";

const LENIENT = { strictType: false };

interface Native {
  chat: boolean;
}

/** `stream` is true unless said otherwise; `num_predict` is taken at its word when above 0. */
export function generateRoute(served: Served, memory: Memory, { chat }: Native): Route {
  return jsonRoute(
    served,
    async (received) => {
      const { body, context } = received;
      const { named } = modelOf(body, served.serving);
      if (isEmpty(body, chat)) return keep(received, served, { memory, chat });
      const generation = readNative(body, served, chat);
      maybeFail(served.options);
      const loadMs = await memory.load(generation.model, context.signal);
      const wire = nativeWire({ named, chat, loadMs });
      return respond({ generation, wire }, { ...context, receivedAt: performance.now() });
    },
    LENIENT,
  );
}

/** Nothing to say: the request is about the model, to load it or to let it go. */
function isEmpty(body: JsonObject, chat: boolean): boolean {
  if (!chat) return (body["prompt"] ?? "") === "";
  const messages = body["messages"] ?? [];
  return Array.isArray(messages) && messages.length === 0;
}

async function keep(
  { body, context }: Received,
  { serving }: Served,
  { memory, chat }: Native & { memory: Memory },
): Promise<object> {
  const { named, model } = modelOf(body, serving);
  const unloads = body["keep_alive"] === 0 || body["keep_alive"] === "0";
  if (unloads) memory.unload(model);
  else await memory.load(model, context.signal);
  return {
    model: named,
    created_at: new Date().toISOString(),
    ...(chat ? { message: { role: "assistant", content: "" } } : { response: "" }),
    done: true,
    done_reason: unloads ? "unload" : "load",
  };
}

function readNative(body: JsonObject, { serving }: Served, chat: boolean): GenerationRequest {
  const { model } = modelOf(body, serving);
  const stream = flag(body, "stream", true);
  const prompt = chat ? chatPrompt(body) : textPrompt(systemOf(body) + text(body, "prompt"));
  const limit = integer(objectIn(body, "options"), "num_predict", -2) ?? -1;
  const maxTokens = limit > 0 ? limit : null;
  return plainRequest({ model, prompts: [prompt], maxTokens, stream }, serving);
}

function systemOf(body: JsonObject): string {
  return typeof body["system"] === "string" ? `${body["system"]}\n` : "";
}

/** `/api/embed` takes one text or several as `input`, `/api/embeddings` one as `prompt`. */
export function embedRoute(served: Served, memory: Memory, field: "input" | "prompt"): Route {
  return inferenceRoute(
    served,
    ({ body, id }) => readEmbedding({ body, id }, served.serving, field),
    async (request, context) => {
      const began = performance.now();
      const loadMs = await memory.load(request.model, context.signal);
      const vectors = (await embed(request, context)).map((vector) => [...vector]);
      if (field === "prompt") return { embedding: vectors[0] };
      return {
        model: request.named,
        embeddings: vectors,
        total_duration: nanoseconds(performance.now() - began),
        load_duration: nanoseconds(loadMs),
        prompt_eval_count: request.promptTokens,
      };
    },
    LENIENT,
  );
}
