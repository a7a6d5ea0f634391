/** What Ollama tells about its models: pulled, loaded, and each in detail. */

import { modelOf, readBody, text } from "../core/body.ts";
import { LlmnodeError } from "../../protocol/errors.ts";
import type { Served } from "../api/dialect.ts";
import { askedModel } from "../api/cards.ts";
import { delay } from "../core/load.ts";
import type { SimOptions } from "../core/options.ts";

export const VERSION = "0.12.0";

const SIZE_BYTES = 4_000_000;

const DETAILS = {
  parent_model: "",
  format: "gguf",
  family: "simulated",
  families: ["simulated"],
  parameter_size: "0B",
  quantization_level: "F32",
};

export function modelTable({ serving, options, createdAt }: Served, memory: Memory) {
  const modified = new Date(createdAt * 1000).toISOString();
  const card = (model: string) => {
    const name = canonicalName(model);
    const digest = new Bun.CryptoHasher("sha256").update(name).digest("hex");
    return { name, model: name, size: SIZE_BYTES, digest, details: DETAILS };
  };
  const openAiCard = (model: string) => ({
    id: canonicalName(model),
    object: "model",
    created: createdAt,
    // The namespace, or the library's for names without one.
    owned_by: model.includes("/") ? (model.split("/").at(-2) ?? "library") : "library",
  });
  return {
    tags: () => ({
      models: options.models.map((model) => ({ ...card(model), modified_at: modified })),
    }),
    running: () => ({
      models: [...memory.loaded()].map(([model, until]) => ({
        ...card(model),
        expires_at: new Date(until).toISOString(),
        size_vram: SIZE_BYTES,
        context_length: options.maxModelLen,
      })),
    }),
    async show(req: Request) {
      const body = await readBody(req, false);
      const asked = { model: body["model"] ?? body["name"] };
      text(asked, "model");
      modelOf(asked, serving);
      return Response.json({
        modelfile: "# simulated",
        parameters: "",
        template: "{{ .Prompt }}",
        details: DETAILS,
        model_info: {
          "general.architecture": "simulated",
          "general.parameter_count": 0,
          "simulated.context_length": options.maxModelLen,
        },
        capabilities: ["completion", "embedding"],
        modified_at: modified,
      });
    },
    openAi: () => ({ object: "list", data: options.models.map(openAiCard) }),
    openAiOne(req: Request) {
      const id = askedModel(req);
      const model = serving.find(id);
      if (model === null) throw new LlmnodeError("model_not_found", `model '${id}' not found`);
      return Response.json(openAiCard(model));
    },
  };
}

/** Ollama's default of `keep_alive`. */
const KEEP_MS = 5 * 60 * 1000;

export interface Memory {
  /**
   * Resolves when the model is loaded, with the milliseconds that this took; rejects when the
   * signal aborts. Requests that come meanwhile wait for the same load. Each call keeps the model
   * for five more minutes.
   */
  load: (model: string, signal: AbortSignal) => Promise<number>;
  unload: (model: string) => void;
  /** The loaded models with the time (milliseconds since the epoch) at which each is let go. */
  loaded: () => Map<string, number>;
}

export function createMemory({ loadTimeMs, print }: SimOptions): Memory {
  const expiry = new Map<string, number>();
  const loads = new Map<string, { dueAt: number; waiting: number }>();
  const loaded = () => {
    const now = Date.now();
    for (const [model, until] of expiry) if (until <= now) expiry.delete(model);
    return expiry;
  };

  const wait = async (model: string, signal: AbortSignal) => {
    const now = performance.now();
    const load = loads.get(model) ?? { dueAt: now + loadTimeMs, waiting: 0 };
    if (load.waiting === 0) print("starting llama-server (simulated)");
    load.waiting += 1;
    loads.set(model, load);
    try {
      await delay(load.dueAt - now, signal);
    } finally {
      load.waiting -= 1;
      // The last one to leave breaks the load off.
      if (load.waiting === 0) loads.delete(model);
    }
  };

  return {
    async load(model, signal) {
      const began = performance.now();
      if (!loaded().has(model)) await wait(model, signal);
      expiry.set(model, Date.now() + KEEP_MS);
      return performance.now() - began;
    },
    unload: (model) => void expiry.delete(model),
    loaded,
  };
}

/** The name with its tag, which is `latest` unless it is given. */
export function canonicalName(name: string): string {
  return name.slice(name.lastIndexOf("/") + 1).includes(":") ? name : `${name}:latest`;
}
