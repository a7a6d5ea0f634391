/** OpenAI's Responses API: requests, whole answers and numbered events. */

import type { GenerationJob } from "./answer.ts";
import { flag, integer, isObject, modelOf, type JsonObject } from "../core/body.ts";
import { generationRoute, type HandleOptions, type Received } from "./handle.ts";
import type { Route, Served } from "./dialect.ts";
import { chatPrompt } from "../core/prompt.ts";
import { failureOf, invalidField } from "../core/refuse.ts";
import { plainRequest } from "../core/request.ts";
import { namedFrame, SSE, type FinishReason, type Summary, type Wire } from "../wire/wire.ts";

/** `/v1/responses`; nothing is stored, `max_output_tokens` is taken at its word. */
export function responsesRoute(served: Served, options: HandleOptions = {}): Route {
  return generationRoute(served, (received) => read(received, served), options);
}

function read({ body, id }: Received, { serving }: Served): GenerationJob {
  const { named, model } = modelOf(body, serving);
  const prompt = chatPrompt({ messages: messagesOf(body) });
  const maxTokens = integer(body, "max_output_tokens");
  return {
    generation: plainRequest(
      { model, prompts: [prompt], maxTokens, stream: flag(body, "stream") },
      serving,
    ),
    wire: responsesWire({
      id,
      model: named,
      maxTokens,
      instructions: body["instructions"] ?? null,
    }),
  };
}

/** A text, or a list of items; what is no message counts by its JSON. */
function messagesOf(body: JsonObject): object[] {
  const { input, instructions } = body;
  const system =
    typeof instructions === "string" ? [{ role: "system", content: instructions }] : [];
  if (typeof input === "string") return [...system, { role: "user", content: input }];
  if (!Array.isArray(input) || input.length === 0) {
    throw invalidField("input", "string_type", "Input should be a valid string or non-empty list");
  }
  const items = input.map((item: unknown) =>
    isObject(item) && typeof item["role"] === "string"
      ? item
      : { role: "item", content: JSON.stringify(item) },
  );
  return [...system, ...items];
}

interface ResponseHead {
  id: string;
  model: string;
  maxTokens: number | null;
  instructions: unknown;
}

function responsesWire(head: ResponseHead): Wire {
  const created = Math.floor(Date.now() / 1000);
  const itemId = `msg_${head.id}`;
  const place = { item_id: itemId, output_index: 0, content_index: 0 };
  let written = "";
  let reason: FinishReason = "stop";
  let number = 0;

  const event = (type: string, fields: object) =>
    namedFrame({ type, sequence_number: number++, ...fields });
  const part = (text: string) => ({ type: "output_text", text, annotations: [], logprobs: null });
  const item = (status: string, content: object[]) => ({
    id: itemId,
    type: "message",
    role: "assistant",
    status,
    content,
  });
  const response = (status: string, output: object[], summary: Summary | null) =>
    responseObject({ ...head, created }, { status, output, summary });

  return {
    contentType: SSE,
    opening: () => {
      const begun = { response: response("in_progress", [], null) };
      return (
        event("response.created", begun) +
        event("response.in_progress", begun) +
        event("response.output_item.added", { output_index: 0, item: item("in_progress", []) }) +
        event("response.content_part.added", { ...place, part: part("") })
      );
    },
    token(_, text) {
      written += text;
      return event("response.output_text.delta", { ...place, delta: text, logprobs: [] });
    },
    finish(_, given) {
      reason = given;
      const status = statusOf(given) === "completed" ? "completed" : "incomplete";
      return (
        event("response.output_text.done", { ...place, text: written, logprobs: [] }) +
        event("response.content_part.done", { ...place, part: part(written) }) +
        event("response.output_item.done", { output_index: 0, item: item(status, [part(written)]) })
      );
    },
    // The end mark of this format is its last event.
    end(summary, noDone) {
      if (noDone) return "";
      const status = statusOf(reason);
      const type = status === "incomplete" ? "response.incomplete" : "response.completed";
      const output = [item(status, [part(written)])];
      return event(type, { response: response(status, output, summary) });
    },
    error(error) {
      const { message, param } = failureOf(error);
      return event("error", { code: "server_error", message, param });
    },
    whole([choice], summary) {
      const status = statusOf(choice?.reason ?? "stop");
      return response(status, [item(status, [part(choice?.text ?? "")])], summary);
    },
  };
}

function statusOf(reason: FinishReason): string {
  return reason === "length" ? "incomplete" : reason === "abort" ? "cancelled" : "completed";
}

function responseObject(
  { id, model, maxTokens, instructions, created }: ResponseHead & { created: number },
  { status, output, summary }: { status: string; output: object[]; summary: Summary | null },
): object {
  return {
    id: `resp_${id}`,
    object: "response",
    created_at: created,
    status,
    error: null,
    incomplete_details: status === "incomplete" ? { reason: "max_output_tokens" } : null,
    instructions,
    max_output_tokens: maxTokens,
    model,
    output,
    parallel_tool_calls: true,
    previous_response_id: null,
    temperature: 1,
    tool_choice: "auto",
    tools: [],
    top_p: 1,
    truncation: "disabled",
    metadata: {},
    usage: summary && {
      input_tokens: summary.promptTokens,
      input_tokens_details: { cached_tokens: summary.cachedTokens ?? 0 },
      output_tokens: summary.completionTokens,
      output_tokens_details: { reasoning_tokens: 0 },
      total_tokens: summary.promptTokens + summary.completionTokens,
    },
  };
}
