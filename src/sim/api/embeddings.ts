/** OpenAI's `/v1/embeddings`, with the few things in which engines differ. */

import { base64Of, embed, readEmbedding } from "./embed.ts";
import { inferenceRoute, type HandleOptions } from "./handle.ts";
import type { Route, Served } from "./dialect.ts";
import { usageBody } from "../wire/openai.ts";
import type { Usage } from "../wire/wire.ts";

interface EmbeddingsStyle extends HandleOptions {
  /** More fields of the answer. */
  extras?: (id: string) => object;
  usage?: (usage: Usage) => object;
}

export function embeddingsRoute(
  served: Served,
  { extras = () => ({}), usage = usageBody, ...options }: EmbeddingsStyle = {},
): Route {
  return inferenceRoute(
    served,
    ({ body, id }) => readEmbedding({ body, id }, served.serving),
    async (request, context) => {
      await options.prepare?.(request.model, context.signal);
      const vectors = await embed(request, context);
      return {
        ...extras(request.id),
        object: "list",
        model: request.named,
        data: vectors.map((vector, index) => ({
          index,
          object: "embedding",
          embedding: request.base64 ? base64Of(vector) : [...vector],
        })),
        usage: usage({
          promptTokens: request.promptTokens,
          completionTokens: 0,
          cachedTokens: null,
        }),
      };
    },
    options,
  );
}
