/** What is asked of a model that ranks, scores or classifies texts: vLLM's shapes, made-up figures. */

import type { AnswerContext } from "./answer.ts";
import { integer, isObject, modelOf, type JsonObject } from "../core/body.ts";
import { embed, prefilled, readEmbedding } from "./embed.ts";
import { inferenceRoute, type Received } from "./handle.ts";
import { promptList, tokensOf, type Prompt } from "../core/prompt.ts";
import { invalidField } from "../core/refuse.ts";
import type { Methods, RouteTable, Served } from "./dialect.ts";
import { embeddingOf } from "../core/text.ts";

const POOLING_KINDS = ["rerank", "score", "classify", "pooling"] as const;
type PoolingPaths = Partial<Record<(typeof POOLING_KINDS)[number], string[]>>;

const LABELS = ["LABEL_0", "LABEL_1"];

/** A route for each of the paths. */
export function poolingRoutes(served: Served, paths: PoolingPaths): RouteTable {
  const route = <T>(
    read: (received: Received) => T,
    answer: (asked: T, context: AnswerContext) => Promise<object>,
  ) => ({ POST: inferenceRoute(served, read, answer) });
  const all: Record<keyof PoolingPaths, Methods> = {
    rerank: route((received) => readRerank(received, served), rerank),
    score: route((received) => readScore(received, served), score),
    classify: route((received) => readTexts(received, served), classify),
    pooling: route(
      ({ body, id }) => readEmbedding({ body, id: `pool-${id}` }, served.serving),
      async (request, context) => {
        const vectors = await embed(request, context);
        const data = vectors.map((vector, index) => ({
          index,
          object: "pooling",
          data: [...vector],
        }));
        return { ...listHead(request.id, request.named), data, usage: usage(request.promptTokens) };
      },
    ),
  };
  const table: RouteTable = {};
  for (const kind of POOLING_KINDS) for (const path of paths[kind] ?? []) table[path] = all[kind];
  return table;
}

function textsHead({ body, id }: Received, { serving }: Served, prompts: Prompt[]) {
  return { id, ...modelOf(body, serving), prompts, promptTokens: tokensOf(prompts) };
}

function readRerank(received: Received, served: Served) {
  const { body } = received;
  const query = onlyText(body, "query");
  const documents = documentsOf(body);
  const topN = integer(body, "top_n", 0) ?? 0;
  const withText = body["return_documents"] !== false;
  const head = textsHead(received, served, [query, ...documents]);
  return { ...head, query, documents, topN, withText };
}

async function rerank(asked: ReturnType<typeof readRerank>, context: AnswerContext) {
  await prefilled(asked, context);
  const { id, named, query, documents, topN, withText } = asked;
  const results = documents
    .map(({ text }, index) => ({
      index,
      ...(withText ? { document: { text, multi_modal: null } } : {}),
      relevance_score: relevance(asked.model, query.text, text),
    }))
    .sort((a, b) => b.relevance_score - a.relevance_score);
  return {
    id: `rerank-${id}`,
    model: named,
    usage: { prompt_tokens: asked.promptTokens, total_tokens: asked.promptTokens },
    results: topN > 0 ? results.slice(0, topN) : results,
  };
}

function readScore(received: Received, served: Served) {
  const { body } = received;
  const first = promptList(body["text_1"] ?? body["queries"], "text_1");
  const second = promptList(body["text_2"] ?? body["documents"], "text_2");
  if (first.length !== 1 && first.length !== second.length) {
    throw invalidField("text_1", "value_error", "Input lengths must be either 1:1, 1:N or N:N");
  }
  return { ...textsHead(received, served, [...first, ...second]), first, second };
}

async function score(asked: ReturnType<typeof readScore>, context: AnswerContext) {
  await prefilled(asked, context);
  const { first, second } = asked;
  const data = second.map(({ text }, index) => ({
    index,
    object: "score",
    score: relevance(asked.model, (first[index] ?? first[0])?.text ?? "", text),
  }));
  return { ...listHead(`score-${asked.id}`, asked.named), data, usage: usage(asked.promptTokens) };
}

function readTexts(received: Received, served: Served) {
  const inputs = promptList(received.body["input"], "input");
  return { ...textsHead(received, served, inputs), inputs };
}

async function classify(asked: ReturnType<typeof readTexts>, context: AnswerContext) {
  await prefilled(asked, context);
  const data = asked.inputs.map(({ text }, index) => {
    const first = relevance(asked.model, "", text);
    const probs = [first, 1 - first];
    return { index, label: LABELS[first >= 0.5 ? 0 : 1], probs, num_classes: probs.length };
  });
  const head = listHead(`classify-${asked.id}`, asked.named);
  return { ...head, data, usage: usage(asked.promptTokens) };
}

/** 0 to 1, a pure function of the model and both texts. */
function relevance(model: string, query: string, text: string): number {
  const [cosine = 0] = embeddingOf(model, `${query}\u0000${text}`, 2);
  return (cosine + 1) / 2;
}

function listHead(id: string, model: string) {
  return { id, object: "list", created: Math.floor(Date.now() / 1000), model };
}

function usage(tokens: number): object {
  return { prompt_tokens: tokens, total_tokens: tokens, completion_tokens: 0 };
}

function onlyText(body: JsonObject, field: string): Prompt {
  const [prompt, more] = promptList(body[field], field);
  if (!prompt || more) throw invalidField(field, "string_type", "Input should be a valid string");
  return prompt;
}

/** Texts, or objects with a text. */
function documentsOf(body: JsonObject): Prompt[] {
  const given = body["documents"] ?? body["texts"];
  const texts = Array.isArray(given)
    ? given.map((one: unknown) => (isObject(one) ? one["text"] : one))
    : given;
  return promptList(texts, "documents");
}
