/** The cluster's models as `GET /v1/models` lists them. */

import type { Catalog } from "../cluster/catalog.ts";

export interface ModelCardJson {
  id: string;
  object: "model";
  /** Unknown to us, but SDKs want a number. */
  created: number;
  owned_by: string;
  /** The base model of a LoRA adapter. */
  parent?: string;
  /** The longest that any replica takes. */
  max_model_len?: number;
}

/** One card for each model that some replica can answer for now, by name. */
export function modelCards(catalog: Catalog): ModelCardJson[] {
  const cards: ModelCardJson[] = [];
  for (const [id, replicas] of catalog) {
    const ready = replicas.filter((replica) => replica.state === "ready");
    if (ready.length === 0) continue;
    const card: ModelCardJson = { id, object: "model", created: 0, owned_by: "llmnode" };
    const parent = ready.find((replica) => replica.card.parent !== null)?.card.parent;
    if (parent) card.parent = parent;
    const lengths = ready.flatMap(({ card: { maxModelLen } }) => maxModelLen ?? []);
    if (lengths.length > 0) card.max_model_len = Math.max(...lengths);
    cards.push(card);
  }
  return cards.sort((a, b) => (a.id < b.id ? -1 : 1));
}
