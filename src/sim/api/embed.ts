/** Embeddings: reads what is asked, makes the vectors after the time of a prefill. */

import { settled, type AnswerContext } from "./answer.ts";
import { integer, modelOf, type JsonObject, type Serving } from "../core/body.ts";
import { simulatedFailure } from "../core/faults.ts";
import { promptList, tokensOf, type Prompt } from "../core/prompt.ts";
import { badValue, invalidField, tooLong } from "../core/refuse.ts";
import { embeddingOf } from "../core/text.ts";

/** Texts in one embedding request and numbers in a vector, at most (OpenAI's limits). */
const MAX_INPUTS = 2048;
const MAX_DIMENSIONS = 4096;
const DEFAULT_DIMENSIONS = 256;

type EmbeddingRequest = ReturnType<typeof readEmbedding>;

/** What an embedding route reads; `field` is where its texts stand. */
export function readEmbedding(
  { body, id }: { body: JsonObject; id: string },
  serving: Serving,
  field = "input",
) {
  const format = body["encoding_format"] ?? "float";
  if (format !== "float" && format !== "base64") {
    throw invalidField("encoding_format", "literal_error", "Input should be float or base64");
  }
  const dimensions = integer(body, "dimensions") ?? DEFAULT_DIMENSIONS;
  if (dimensions > MAX_DIMENSIONS) {
    throw badValue("dimensions", `dimensions must be at most ${MAX_DIMENSIONS}`);
  }
  const inputs = promptList(body[field], field);
  if (inputs.length > MAX_INPUTS) {
    throw badValue(field, `${field} must have at most ${MAX_INPUTS} entries`);
  }
  for (const { tokens } of inputs) {
    if (tokens > serving.maxModelLen) throw tooLong(serving.maxModelLen, tokens, 0);
  }
  return {
    id,
    ...modelOf(body, serving),
    inputs,
    promptTokens: tokensOf(inputs),
    dimensions,
    base64: format === "base64",
  };
}

/** The vectors, in the order of the inputs. Rejects when the client goes or a fault strikes. */
export async function embed(
  request: EmbeddingRequest,
  context: AnswerContext,
): Promise<Float32Array[]> {
  const { model, inputs, dimensions } = request;
  await prefilled({ model, prompts: inputs }, context);
  return inputs.map((input) => embeddingOf(model, input.text, dimensions));
}

/** The time and the bookkeeping of a request that generates nothing. */
export async function prefilled(
  { model, prompts }: { model: string; prompts: readonly Prompt[] },
  context: AnswerContext,
): Promise<void> {
  const request = { model, prompts, choices: [], stream: false, continuousUsage: false };
  const { outcome } = await settled(request, context);
  if (outcome === "shutdown") throw simulatedFailure();
}

/** Base64 of little-endian 32 bit floats, as numpy writes them. */
export function base64Of(vector: Float32Array): string {
  const bytes = Buffer.alloc(vector.length * 4);
  vector.forEach((value, i) => bytes.writeFloatLE(value, i * 4));
  return bytes.toString("base64");
}
