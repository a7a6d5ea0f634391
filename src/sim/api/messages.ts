/** Anthropic's Messages API: requests, whole answers and named events. */

import type { GenerationJob } from "./answer.ts";
import { flag, integer, modelOf, type JsonObject } from "../core/body.ts";
import { generationRoute, jsonRoute, type HandleOptions, type Received } from "./handle.ts";
import type { RouteTable, Served } from "./dialect.ts";
import { chatPrompt, type Prompt } from "../core/prompt.ts";
import { failureOf, invalidField, plainMessage } from "../core/refuse.ts";
import { boundedRequest } from "../core/request.ts";
import { around, namedFrame, SSE, type FinishReason, type Wire } from "../wire/wire.ts";

const HOLE = "\u0001";

/** What an engine calls an error inside Anthropic's envelope. */
type ErrorName = (error: unknown) => string;

interface MessagesOptions extends HandleOptions {
  nameOf: ErrorName;
  /** Whether it has `/v1/messages/count_tokens`. Default: yes. */
  counts?: boolean;
}

/**
 * `/v1/messages` and `/v1/messages/count_tokens`. An answer ends by itself after 64 tokens, or with
 * `max_tokens` before.
 */
export function messagesRoutes(
  served: Served,
  { nameOf, counts = true, ...options }: MessagesOptions,
): RouteTable {
  const failure = (error: unknown) =>
    Response.json(envelope(error, nameOf), { status: failureOf(error).status });
  const count = ({ body }: Received) => {
    modelOf(body, served.serving);
    return { input_tokens: promptOf(body).tokens };
  };
  return {
    "/v1/messages": {
      POST: generationRoute(served, (received) => read(received, served, nameOf), options),
      failure,
    },
    ...(counts
      ? { "/v1/messages/count_tokens": { POST: jsonRoute(served, count, options), failure } }
      : {}),
  };
}

function read({ body, id }: Received, { serving }: Served, nameOf: ErrorName): GenerationJob {
  const { named, model } = modelOf(body, serving);
  const prompt = promptOf(body);
  const atMost = integer(body, "max_tokens");
  if (atMost === null) throw invalidField("max_tokens", "missing", "Field required");
  const stream = flag(body, "stream");
  return {
    generation: boundedRequest({ model, prompts: [prompt], atMost, stream }, serving),
    wire: messagesWire({ id: `msg_${id}`, model: named, inputTokens: prompt.tokens }, nameOf),
  };
}

/** The same tokens as a chat with the system prompt as its first message has. */
function promptOf(body: JsonObject): Prompt {
  const system = body["system"];
  const given = body["messages"];
  if (system === undefined || !Array.isArray(given)) return chatPrompt(body);
  if (typeof system !== "string" && !Array.isArray(system)) {
    throw invalidField("system", "string_type", "Input should be a valid string or list");
  }
  return chatPrompt({ ...body, messages: [{ role: "system", content: system }, ...given] });
}

function messagesWire(
  { id, model, inputTokens }: { id: string; model: string; inputTokens: number },
  nameOf: ErrorName,
): Wire {
  const message = (content: object[], stop: string | null, outputTokens: number) => ({
    id,
    type: "message",
    role: "assistant",
    content,
    model,
    stop_reason: stop,
    stop_sequence: null,
    usage: { input_tokens: inputTokens, output_tokens: outputTokens },
  });
  const delta = { type: "text_delta", text: HOLE };
  const [before, after] = around({ type: "content_block_delta", index: 0, delta }, "\\u0001");
  let reason: FinishReason = "stop";
  return {
    contentType: SSE,
    opening: () =>
      namedFrame({ type: "message_start", message: message([], null, 0) }) +
      namedFrame({
        type: "content_block_start",
        index: 0,
        content_block: { type: "text", text: "" },
      }),
    token: (_, text) => `event: content_block_delta\ndata: ${before}${text}${after}\n\n`,
    finish(_, given) {
      reason = given;
      return namedFrame({ type: "content_block_stop", index: 0 });
    },
    end: ({ completionTokens }, noDone) =>
      namedFrame({
        type: "message_delta",
        delta: { stop_reason: stopReason(reason), stop_sequence: null },
        usage: { input_tokens: inputTokens, output_tokens: completionTokens },
      }) + (noDone ? "" : namedFrame({ type: "message_stop" })),
    error: (error) => namedFrame(envelope(error, nameOf)),
    whole([choice], { completionTokens }) {
      const content = [{ type: "text", text: choice?.text ?? "" }];
      return message(content, stopReason(choice?.reason ?? "stop"), completionTokens);
    },
  };
}

/** Anthropic has no word for an engine that stops: it is the end of the turn. */
function stopReason(reason: FinishReason): string {
  return reason === "length" ? "max_tokens" : "end_turn";
}

function envelope(error: unknown, nameOf: ErrorName) {
  return { type: "error", error: { type: nameOf(error), message: plainMessage(error) } };
}

/** Anthropic's own names, for engines that keep to them. */
export function anthropicName(error: unknown): string {
  const { status } = failureOf(error);
  if (status === 404) return "not_found_error";
  return status < 500 ? "invalid_request_error" : "api_error";
}
