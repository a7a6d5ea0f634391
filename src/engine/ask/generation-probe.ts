/** Asks an engine for one token: an engine that gives one is alive, whatever its health route says. */

import { LlmnodeError } from "../../protocol/errors.ts";
import { engineClient } from "./engine-client.ts";
import type { EngineKind, EngineModel } from "../status.ts";

export interface GenerationTarget {
  /** Without a path. */
  url: string;
  kind: EngineKind;
  apiKey: string | null;
  models: readonly EngineModel[];
  timeoutMs: number;
}

export type Generation =
  | { outcome: "token" }
  /** It did not answer in time, broke off, or failed. */
  | { outcome: "failed"; reason: string }
  /** It refused: nothing is known by that. */
  | { outcome: "unknown"; reason: string };

interface Ask {
  path: string;
  body: object;
}

const PROMPT = "a";
/** One token, or one embedding, is far below it. */
const ANSWER_MAX_BYTES = 4 * 1024 * 1024;
/** What a model of another kind, or another version of the engine, answers: then the next way is tried. */
const UNSUPPORTED = new Set([400, 404, 405, 422, 424, 501]);

/** Tries the ways of its kind in turn until one is not refused. Throws only if `signal` is aborted. */
export async function generateOne(
  target: GenerationTarget,
  signal: AbortSignal,
): Promise<Generation> {
  const model = cheapest(target.models);
  const asks = model === null && needsModel(target.kind) ? [] : asksOf(target.kind, model ?? "");
  const { url, apiKey, timeoutMs } = target;
  const client = engineClient({
    url,
    apiKey,
    timeoutMs,
    answerMaxBytes: ANSWER_MAX_BYTES,
    signal,
  });
  let reason = "it has no model in memory";
  for (const { path, body } of asks) {
    try {
      const { status } = await client.post(path, body);
      if (status >= 200 && status < 300) return { outcome: "token" };
      reason = `POST ${path} answers ${status}`;
      // Full, or not for us: neither tells whether tokens flow.
      if (status < 500 && !UNSUPPORTED.has(status)) return { outcome: "unknown", reason };
      if (status === 503) return { outcome: "unknown", reason };
      if (!UNSUPPORTED.has(status)) return { outcome: "failed", reason };
    } catch (error) {
      signal.throwIfAborted();
      if (error instanceof LlmnodeError) return { outcome: "failed", reason: error.message };
      throw error;
    }
  }
  return { outcome: "unknown", reason };
}

/** One that is in memory: any other would be loaded for it. Adapters only where there is no base. */
function cheapest(models: readonly EngineModel[]): string | null {
  const loaded = models.filter((model) => model.loaded !== false);
  return (loaded.find(({ parent }) => parent === null) ?? loaded[0])?.id ?? null;
}

function needsModel(kind: EngineKind): boolean {
  return kind !== "tgi" && kind !== "tei";
}

/** The cheapest way first. */
function asksOf(kind: EngineKind, model: string): Ask[] {
  const completion = { model, prompt: PROMPT, max_tokens: 1 };
  const chat = { model, messages: [{ role: "user", content: PROMPT }], max_tokens: 1 };
  const embedding = { path: "/v1/embeddings", body: { model, input: PROMPT } };
  switch (kind) {
    case "tgi":
      return [{ path: "/generate", body: { inputs: PROMPT, parameters: { max_new_tokens: 1 } } }];
    case "tei":
      return [
        { path: "/embed", body: { inputs: PROMPT } },
        { path: "/rerank", body: { query: PROMPT, texts: [PROMPT] } },
        { path: "/predict", body: { inputs: PROMPT } },
      ];
    case "ollama":
      return [
        {
          path: "/api/generate",
          body: { model, prompt: PROMPT, stream: false, options: { num_predict: 1 } },
        },
        { path: "/api/embed", body: { model, input: PROMPT } },
      ];
    default:
      return [
        { path: "/v1/completions", body: completion },
        { path: "/v1/chat/completions", body: chat },
        embedding,
      ];
  }
}
