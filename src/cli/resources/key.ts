/** `llmnode key`: makes, lists and takes back the API keys of clients. */

import { KEY_ROLES } from "../../protocol/caller.ts";
import { cleanLine } from "../../util/text.ts";
import { number, text, texts } from "../../util/json.ts";
import type { Options } from "../base/options.ts";
import { type Action, column, listAction, resourceCommand, timeColumn } from "./resource.ts";

const ACTIONS: Record<string, Action> = {
  create: {
    ask: ({ options }) => ({ body: limitsOf(options) }),
    lines: ({ key }) => [text(key) ?? ""],
    notes: ({ keys, warnings }) => [
      ...texts(warnings).map((warning) => `warning: ${cleanLine(warning, 300)}`),
      "shown this once; clients send it as Authorization: Bearer <key>, or as x-api-key",
      ...(keys === 1 ? ["it is the only key: clients without one get 401 now"] : []),
    ],
  },
  list: listAction(
    "keys",
    [
      column("ID", "id"),
      column("STATE", "state"),
      column("ROLE", "role"),
      {
        head: "MODELS",
        text: ({ models }) => (models === null ? "any" : texts(models).join(",")),
      },
      column("RPM", "requests_per_minute"),
      column("TPM", "tokens_per_minute"),
      column("CONC", "concurrency"),
      column("TOKENS/DAY", "tokens_per_day"),
      timeColumn("EXPIRES", "expires_at"),
      column("NAME", "name"),
    ],
    "no API keys (yet). Make one: llmnode key create --name alice",
  ),
  revoke: {
    needs: "an id of: llmnode key list",
    ask: ({ word, options }) => ({
      path: "/revoke",
      body: { id: word, purge: options.isOn("purge") },
    }),
    notes({ keys, active_keys: active }, { word, options }) {
      const done = options.isOn("purge") ? "revoked and forgotten" : "revoked";
      return [`${cleanLine(word, 80)}: ${done}, at once`, ...clientsNow(number(keys), active)];
    },
  },
};

/** What the keys that are left mean for clients. */
function clientsNow(keys: number | null, active: unknown): string[] {
  if (keys === 0) return ["there is no API key any more: clients need none"];
  if (active !== 0) return [];
  return ["no API key is left that lets clients in (revoke all with --purge to need none)"];
}

export const keyCommand = resourceCommand({
  name: "key",
  usage: "key create|list|revoke <id> [options]",
  summary: "make, list and take back the API keys of clients",
  details: [
    "From the first key on every client needs one. A user's key asks for models; a viewer's also sees",
    "status, requests, logs and metrics; an operator's may change things as well. A key is shown once:",
    "the head keeps a hash of it. What is made or revoked counts at once.",
  ],
  path: "/api/v1/keys",
  actions: ACTIONS,
  wordName: "id",
  options: [
    { flag: "name", value: "<text>", summary: "create: whose it is" },
    {
      flag: "models",
      value: "<a,b>",
      repeat: true,
      summary: "create: the only models and aliases it is for, with *, such as 'Qwen/*'",
    },
    {
      flag: "role",
      value: "<role>",
      default: "user",
      choices: KEY_ROLES,
      summary: `create: ${KEY_ROLES.join(", ")}`,
    },
    { flag: "rpm", value: "<n>", summary: "create: requests a minute" },
    { flag: "tpm", value: "<n>", summary: "create: tokens a minute, input and output" },
    { flag: "concurrency", value: "<n>", summary: "create: requests at once" },
    { flag: "tokens-per-day", value: "<n>", summary: "create: tokens a day (UTC)" },
    { flag: "expires", value: "<duration>", summary: "create: how long it lasts, such as 30d" },
    { flag: "purge", summary: "revoke: forget it as well; it then is as if never made" },
  ],
  examples: [
    "llmnode key create --name alice --models 'Qwen/*' --rpm 60 --expires 30d",
    "llmnode key create --name grafana --role viewer",
    "llmnode key list",
  ],
});

/** The same limits as at the head, so that a slip is told without asking it. */
function limitsOf(options: Options): object {
  const expires = options.durationMs("expires");
  if (expires === 0) throw options.invalid("expires", "more than zero");
  const models = options
    .texts("models")
    .flatMap((list) => list.split(","))
    .map((model) => model.trim())
    .filter((model) => model !== "");
  if (options.isGiven("models") && models.length === 0) {
    throw options.invalid("models", "names of models, with commas between them");
  }
  return {
    name: options.text("name"),
    role: options.choice("role", KEY_ROLES),
    models: models.length === 0 ? null : models,
    requests_per_minute: options.integer("rpm", { min: 1, max: 1_000_000 }),
    tokens_per_minute: options.integer("tpm", { min: 1, max: 1_000_000_000 }),
    concurrency: options.integer("concurrency", { min: 1, max: 100_000 }),
    tokens_per_day: options.integer("tokens-per-day", { min: 1, max: 1_000_000_000_000 }),
    expires_in_ms: expires,
  };
}
