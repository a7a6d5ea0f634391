/** The cluster's models as clients list them: OpenAI's form, and Ollama's. */

import type { Catalog, Replica } from "../../cluster/state/state.ts";
import { findReplicas } from "../../cluster/state/catalog.ts";
import type { ListedAliases } from "../store/aliases.ts";

export interface ModelCardJson {
  id: string;
  object: "model";
  created: number;
  owned_by: string;
  [extra: string]: unknown;
}

/**
 * One card for each model that some replica can answer for now: what its engines say of it, LoRA
 * adapters with their parent. Those in memory first, those that are only pulled after them, and
 * last the aliases that lead to one of these.
 */
export function* modelCards(catalog: Catalog, aliases: ListedAliases): Generator<ModelCardJson> {
  const hidden = new Set(aliases.names());
  const own = [...catalog].flatMap(([id, replicas]) => {
    const ready = replicas.filter((replica) => replica.state === "ready");
    if (ready.length === 0 || hidden.has(id)) return [];
    return { id, ready, loaded: ready.some(({ card }) => card.loaded !== false) };
  });
  own.sort((a, b) => Number(b.loaded) - Number(a.loaded) || (a.id < b.id ? -1 : 1));
  for (const { id, ready } of own) yield cardOf(id, ready);
  for (const name of [...hidden].sort()) {
    const card = aliasCard(catalog, aliases, name);
    if (card) yield card;
  }
}

/** The card of one model or alias by any of its names, or null. */
export function modelCard(
  catalog: Catalog,
  aliases: ListedAliases,
  name: string,
): ModelCardJson | null {
  return aliases.modelsOf(name) === null
    ? ownCard(catalog, name)
    : aliasCard(catalog, aliases, name);
}

/** That of the first of its models that can answer, under the alias's name. */
function aliasCard(catalog: Catalog, aliases: ListedAliases, name: string): ModelCardJson | null {
  for (const model of aliases.modelsOf(name) ?? []) {
    const card = ownCard(catalog, model);
    if (card) return { ...card, id: name, root: card.id, parent: card.id };
  }
  return null;
}

function ownCard(catalog: Catalog, model: string): ModelCardJson | null {
  const ready = findReplicas(catalog, model).filter((replica) => replica.state === "ready");
  const id = ready[0]?.card.id;
  return id === undefined ? null : cardOf(id, ready);
}

function cardOf(id: string, ready: readonly Replica[]): ModelCardJson {
  const extra = ready[0]?.card.extra ?? {};
  const { created, owned_by } = extra;
  const card: ModelCardJson = {
    ...extra,
    id,
    object: "model",
    // Unknown to us, but SDKs want a number.
    created: typeof created === "number" ? created : 0,
    owned_by: typeof owned_by === "string" ? owned_by : "llmnode",
  };
  const parent = ready.find((replica) => replica.card.parent !== null)?.card.parent;
  if (parent) card["parent"] = parent;
  const lengths = ready.flatMap(({ card: { maxModelLen } }) => maxModelLen ?? []);
  if (lengths.length > 0) card["max_model_len"] = Math.max(...lengths);
  return card;
}
