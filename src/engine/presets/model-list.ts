/** Reads model lists as engines send them: tolerant of what is missing, strict on what is shown. */

import { cleanLine } from "../../util/text.ts";
import type { EngineModel } from "../status.ts";
import type { Ask } from "./preset.ts";
import { isRecord } from "../../util/json.ts";

/** Longest model name that is taken; a longer one is dropped. */
const MAX_NAME = 512;
/** Most models of one engine; more are dropped. */
const MAX_MODELS = 4096;

/** The models of OpenAI's `/v1/models`, with the extra fields of vLLM, SGLang and llama.cpp. */
export async function openAiModels(ask: Ask): Promise<EngineModel[]> {
  const cards = listOf(fieldOf(await ask("/v1/models"), "data"));
  return tidyModels(
    cards.flatMap((card) => {
      const status = fieldOf(fieldOf(card, "status"), "value");
      const meta = fieldOf(card, "meta");
      const model: EngineModel = {
        id: textOf(fieldOf(card, "id")),
        parent: textOf(fieldOf(card, "parent")) || null,
        maxModelLen: tokensOf(fieldOf(card, "max_model_len")) ?? tokensOf(fieldOf(meta, "n_ctx")),
        loaded: typeof status === "string" ? status === "loaded" : null,
        ...cardOf(card),
      };
      const aliases = listOf(fieldOf(card, "aliases")).map(textOf);
      return [model, ...aliases.map((id) => ({ ...model, id }))];
    }),
  );
}

/** Fields of a card that are carried by themselves, or say nothing to a client. */
const TAKEN: ReadonlySet<string> = new Set([
  "id",
  "object",
  "parent",
  "max_model_len",
  "permission",
]);
const MAX_CARD_BYTES = 2048;

/** The rest of an engine's card, for clients that know the engine; left out when it is large. */
export function cardOf(card: unknown): { card?: string } {
  if (!isRecord(card)) return {};
  const rest = Object.entries(card).filter(([key]) => !TAKEN.has(key));
  const text = JSON.stringify(Object.fromEntries(rest));
  return rest.length === 0 || Buffer.byteLength(text) > MAX_CARD_BYTES ? {} : { card: text };
}

/** The names that can be shown as they are, each once. */
export function printableModels(names: readonly string[]): string[] {
  const models = names.map((id) => ({ id, parent: null, maxModelLen: null, loaded: null }));
  return tidyModels(models).map((model) => model.id);
}

/** Without nameless, unprintable and repeated models, and no more than can be handled. */
export function tidyModels(models: readonly EngineModel[]): EngineModel[] {
  const byId = new Map<string, EngineModel>();
  for (const model of models) {
    const printable = model.id !== "" && cleanLine(model.id, MAX_NAME) === model.id;
    if (printable && !byId.has(model.id) && byId.size < MAX_MODELS) byId.set(model.id, model);
  }
  return [...byId.values()];
}

/** A member of what may be an object. */
export function fieldOf(value: unknown, name: string): unknown {
  if (!isRecord(value)) return undefined;
  return Object.getOwnPropertyDescriptor(value, name)?.value;
}

export function listOf(value: unknown): unknown[] {
  return Array.isArray(value) ? value : [];
}

export function textOf(value: unknown): string {
  return typeof value === "string" ? value : "";
}

/** A count of tokens, or null for anything that is none. */
export function tokensOf(value: unknown): number | null {
  return typeof value === "number" && Number.isSafeInteger(value) && value > 0 ? value : null;
}
