/** The list of models as vLLM and SGLang give it. */

import type { SimOptions } from "../core/options.ts";

interface CardOptions {
  /** In seconds. */
  createdAt: number;
  owner: string;
  /** More fields of a card. */
  extras?: (id: string, createdAt: number) => object;
}

/** The models, then the adapters with the model they belong to. */
export function cardList(
  { models, adapters, maxModelLen }: SimOptions,
  { createdAt, owner, extras = () => ({}) }: CardOptions,
): { id: string }[] {
  const card = (id: string, parent: string | null, length: number | null) => ({
    id,
    object: "model",
    created: createdAt,
    owned_by: owner,
    root: id,
    parent,
    max_model_len: length,
    ...extras(id, createdAt),
  });
  return [
    ...models.map((id) => card(id, null, maxModelLen)),
    // An adapter has no length of its own.
    ...adapters.map(({ name, base }) => card(name, base, null)),
  ];
}

/** The body of `/v1/models`. */
export function modelCards(options: SimOptions, how: CardOptions): object {
  return { object: "list", data: cardList(options, how) };
}

/** The model in `/v1/models/<id>`, whose slashes may be escaped or not. */
export function askedModel(req: Request): string {
  const id = new URL(req.url).pathname.slice("/v1/models/".length);
  try {
    return decodeURIComponent(id);
  } catch (error) {
    // A broken escape names no model; what stands there is looked for as it is.
    if (error instanceof URIError) return id;
    throw error;
  }
}
