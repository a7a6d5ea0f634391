/** Ollama: `ollama serve`, set by its environment only (ollama/envconfig/config.go). */

import { parseHostPort } from "../../util/host-port.ts";
import { wholeNumber } from "../flags.ts";
import { cardOf, fieldOf, listOf, textOf, tidyModels, tokensOf } from "./model-list.ts";
import { COMMON, type Ask, type EnginePreset } from "./preset.ts";

const PORT = 11_434;

export const ollama: EnginePreset = {
  ...COMMON,
  kind: "ollama",
  defaultPort: PORT,
  defaultHost: "127.0.0.1",
  healthPath: "/",
  // It answers before a model is loaded or even pulled.
  needsModels: false,
  // On loopback it answers 403 to any name but its own (allowedHostsMiddleware).
  wantsOwnHost: true,
  image: {
    name: /(?:^|\/)ollama$/,
    entrypoint: ["ollama"],
    command: ["serve"],
    env: { OLLAMA_HOST: "0.0.0.0:11434" },
  },
  match({ program, args }) {
    if (program !== "ollama") return null;
    return args[0] === "serve" || args[0] === "start" ? args.slice(1) : null;
  },
  argvFacts(_args, env) {
    // What is beyond that waits in Ollama itself, unseen; 0 leaves the choice to it.
    const parallel = wholeNumber(env["OLLAMA_NUM_PARALLEL"] ?? "1");
    // As many for each model that it may hold at once.
    const models = wholeNumber(env["OLLAMA_MAX_LOADED_MODELS"]) || 1;
    return {
      ...listenAddress(env["OLLAMA_HOST"] ?? ""),
      maxInFlight: parallel ? parallel * models : null,
    };
  },
  models: ollamaModels,
};

/**
 * All pulled models, and which of them are loaded. `/v1/models` would also list the ones that run
 * in Ollama's cloud; they are told by `remote_host` and left out.
 */
export async function ollamaModels(ask: Ask) {
  const pulled = listOf(fieldOf(await ask("/api/tags"), "models"));
  const running = listOf(fieldOf(await ask("/api/ps"), "models"));
  const loaded = new Map(running.map((model) => [nameOf(model), model]));
  return tidyModels(
    pulled
      .filter((model) => textOf(fieldOf(model, "remote_host")) === "")
      .map((model) => ({
        id: nameOf(model),
        parent: null,
        maxModelLen: tokensOf(fieldOf(loaded.get(nameOf(model)), "context_length")),
        loaded: loaded.has(nameOf(model)),
        ...cardOf({
          created: Math.floor(Date.parse(textOf(fieldOf(model, "modified_at"))) / 1000) || 0,
          // As Ollama's own `/v1/models` says: the namespace, or its library.
          owned_by: /^(.+)\//.exec(nameOf(model))?.[1] ?? "library",
        }),
      })),
  );
}

function nameOf(model: unknown): string {
  return textOf(fieldOf(model, "name")) || textOf(fieldOf(model, "model"));
}

/** `host`, `host:port`, `:port` or `scheme://...`; a scheme changes the usual port. */
function listenAddress(text: string): { host: string | null; port: number | null } {
  const match = /^(?:(https?):\/\/)?([^/]*)/.exec(text.trim().replace(/^["']|["']$/g, ""));
  const usual = match?.[1] === "http" ? 80 : match?.[1] === "https" ? 443 : null;
  const address = match?.[2] || null;
  if (address === null) return { host: null, port: usual };
  const parsed = parseHostPort(address, { host: "127.0.0.1", port: usual ?? PORT });
  return { host: parsed?.host ?? null, port: parsed?.port ?? usual };
}
