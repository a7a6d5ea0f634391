/** What an answer says before its text, or in its place: thoughts and tool calls. */

import { isObject, objectIn, type JsonObject } from "./body.ts";
import { badValue } from "./refuse.ts";
import { MARK, originOf, tokenAt } from "./text.ts";
import type { FinishReason, Piece, ToolCall } from "../wire/wire.ts";

/** How long a model thinks that is asked to. */
const THINKING_TOKENS = 8;

/** Bytes of a call's arguments in one token, as in any other text. */
const TOKEN_BYTES = 4;

/** Nested objects of a tool's parameters that get made-up values. */
const MAX_DEPTH = 8;

export interface Lead {
  pieces: readonly Piece[];
  /** Set when no text follows: the reason with which the answer ends. */
  instead: FinishReason | null;
}

/**
 * Tool calls when `tool_choice` names a function (that one) or is "required" (the first tool, and
 * with `parallel_tool_calls` the second one too); thoughts when the chat template is told to enable
 * them. Throws `bad_request` for a choice among no tools.
 */
export function leadOf(body: JsonObject, model: string, prompt: string): Lead {
  const calls = callsOf(body, () => originOf(model, prompt).seed);
  if (calls) return calls;
  if (objectIn(body, "chat_template_kwargs")["enable_thinking"] !== true) {
    return { pieces: [], instead: null };
  }
  const origin = originOf(model, `${prompt}<think>`);
  const pieces = Array.from({ length: THINKING_TOKENS }, (_, i) => ({
    channel: "reasoning" as const,
    text: tokenAt(origin, i),
  }));
  return { pieces, instead: null };
}

function callsOf(body: JsonObject, seedOf: () => number): Lead | null {
  const choice = body["tool_choice"];
  const named = isObject(choice) ? objectIn(choice, "function")["name"] : null;
  if (choice !== "required" && typeof named !== "string") return null;
  const tools = Array.isArray(body["tools"]) ? body["tools"].filter(isObject) : [];
  const functions = tools.map((tool) => objectIn(tool, "function"));
  const wanted =
    typeof named === "string"
      ? functions.filter((one) => one["name"] === named).slice(0, 1)
      : functions.slice(0, body["parallel_tool_calls"] === true ? 2 : 1);
  if (wanted.length === 0) {
    const message =
      typeof named === "string"
        ? `Tool '${named}' has not been defined in tools.`
        : "When using `tool_choice`, `tools` must be set to a list with at least one tool.";
    throw badValue("tool_choice", message);
  }
  const seed = seedOf().toString(16).padStart(8, "0");
  const calls = wanted.map((one, i) => ({
    id: `chatcmpl-tool-${seed}${i}`,
    name: String(one["name"] ?? ""),
    arguments: JSON.stringify(exampleOf(one["parameters"])),
  }));
  return {
    pieces: calls.flatMap(piecesOf),
    // vLLM's rule: only calls that were the model's own choice end with `tool_calls`.
    instead: typeof named === "string" ? "stop" : "tool_calls",
  };
}

function piecesOf(opens: ToolCall, call: number): Piece[] {
  const parts: string[] = [];
  let part = "";
  for (const character of opens.arguments) {
    part += character;
    if (Buffer.byteLength(part) < TOKEN_BYTES) continue;
    parts.push(part);
    part = "";
  }
  if (part !== "") parts.push(part);
  return [
    { channel: "call", call, opens, text: "" },
    ...parts.map((text): Piece => ({ channel: "call", call, opens: null, text })),
  ];
}

/** A made-up value that a JSON schema allows, for the common keywords. */
function exampleOf(schema: unknown, depth = 0): unknown {
  if (!isObject(schema)) return depth === 0 ? {} : null;
  if (Array.isArray(schema["enum"])) return schema["enum"][0] ?? null;
  if ("const" in schema) return schema["const"];
  const type = Array.isArray(schema["type"]) ? schema["type"][0] : schema["type"];
  switch (type) {
    case "string":
      return MARK.trim();
    case "integer":
    case "number":
      return typeof schema["minimum"] === "number" ? schema["minimum"] : 1;
    case "boolean":
      return true;
    case "array":
      return [];
    case "null":
      return null;
    default: {
      const properties = depth < MAX_DEPTH ? objectIn(schema, "properties") : {};
      return Object.fromEntries(
        Object.entries(properties).map(([name, one]) => [name, exampleOf(one, depth + 1)]),
      );
    }
  }
}
