/** What Ollama tells about its models: pulled, loaded, and each in detail. */

import { modelOf, readBody, text } from "../core/body.ts";
import { LlmnodeError } from "../../protocol/errors.ts";
import type { Route } from "../api/routes.ts";
import { askedModel } from "../api/cards.ts";
import type { Served } from "../api/dialect.ts";
import { canonicalName, type Memory } from "./ollama-memory.ts";

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

export interface ModelTable {
  tags: () => object;
  running: () => object;
  show: Route;
  openAi: () => object;
  openAiOne: Route;
}

export function modelTable({ serving, options, createdAt }: Served, memory: Memory): ModelTable {
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
    async show(req) {
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
    openAiOne(req) {
      const id = askedModel(req);
      const model = serving.find(id);
      if (model === null) throw new LlmnodeError("model_not_found", `model '${id}' not found`);
      return Response.json(openAiCard(model));
    },
  };
}
