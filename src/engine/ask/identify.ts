/** Recognises an engine by its answers, when its command does not say what it is. */

import { LlmnodeError } from "../../protocol/errors.ts";
import { parseJson, throwUnlessOk, type EngineClient } from "./engine-client.ts";
import { fieldOf, listOf, textOf } from "../presets/model-list.ts";
import type { EngineKind } from "../status.ts";

// `owned_by` of a model card, read in each engine's source (August 2026).
const OWNERS: Readonly<Record<string, EngineKind>> = {
  vllm: "vllm",
  sglang: "sglang",
  llamacpp: "llama-server",
  tensorrt_llm: "trtllm",
  lmdeploy: "lmdeploy",
  "llmnode-sim": "sim",
};

/**
 * The kind of engine that answers, or `generic` for one that lists models and is none of the known
 * ones. Throws LlmnodeError, see EngineClient, if it lists none in any known way.
 */
export async function identifyEngine(client: EngineClient): Promise<EngineKind> {
  const list = await client.get("/v1/models");
  if (list.status === 404 || list.status === 405) {
    if (await isTei(client)) return "tei";
    throwUnlessOk("/v1/models", list);
  }
  throwUnlessOk("/v1/models", list);
  const card = listOf(fieldOf(parseJson(list.text, "GET /v1/models"), "data"))[0];
  const owner = textOf(fieldOf(card, "owned_by"));
  const known = Object.hasOwn(OWNERS, owner) ? OWNERS[owner] : undefined;
  if (known !== undefined) return known;
  if (owner !== "" && owner === fieldOf(card, "id") && fieldOf(card, "created") === 0) return "tgi";
  const greeting = (await client.get("/")).text.slice(0, 200);
  if (greeting.includes("Ollama is running")) return "ollama";
  if (greeting.includes("SGLang is running")) return "sglang";
  return (await isDynamo(client)) ? "dynamo" : "generic";
}

async function isTei(client: EngineClient): Promise<boolean> {
  const info = await jsonOrNull(client, "/info");
  return (
    fieldOf(info, "model_type") !== undefined && fieldOf(info, "max_input_length") !== undefined
  );
}

async function isDynamo(client: EngineClient): Promise<boolean> {
  return fieldOf(await jsonOrNull(client, "/live"), "status") === "live";
}

/** Null for an answer that only says that there is nothing of the kind. */
async function jsonOrNull(client: EngineClient, path: string): Promise<unknown> {
  try {
    return await client.json(path);
  } catch (error) {
    if (error instanceof LlmnodeError && error.code === "upstream_broken") return null;
    throw error;
  }
}
