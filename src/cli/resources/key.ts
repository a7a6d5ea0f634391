/** `llmnode key`: makes, lists and takes back the API keys of clients. */

import { usage } from "../base/messages.ts";
import { KEY_ROLES } from "../../protocol/caller.ts";
import { cleanLine } from "../../util/text.ts";
import { actionNamed, type HeadJob, printAnswer } from "../parse/actions.ts";
import { getJson, headClient, postJson } from "../client/api.ts";
import { EXIT } from "../base/exit-codes.ts";
import type { Options } from "../base/options.ts";
import type { CommandSpec } from "../base/spec.ts";
import { textTable } from "../base/table.ts";

const PATH = "/api/v1/keys";

const ACTIONS: Record<string, (job: HeadJob) => Promise<void>> = {
  async create(job) {
    const answer = await postJson(job.client, PATH, wishOf(job.invocation.options));
    const { key, keys, warnings } = read<{ key: string; keys: number; warnings: string[] }>(answer);
    printAnswer(job, answer, key);
    for (const warning of warnings) {
      job.terminal.err.write(`warning: ${cleanLine(warning, 300)}\n`);
    }
    tell(job, "shown this once; clients send it as Authorization: Bearer <key>, or as x-api-key");
    if (keys === 1) tell(job, "it is the only key: clients without one get 401 now");
  },
  async list(job) {
    const answer = await getJson(job.client, PATH);
    const { keys } = read<{ keys: Row[] }>(answer);
    if (keys.length === 0) {
      printAnswer(job, answer, null);
      tell(job, "no API keys (yet). Make one: llmnode key create --name alice");
      return;
    }
    printAnswer(job, answer, textTable(HEADER, keys.map(rowOf), job.terminal.columns).join("\n"));
  },
  async revoke(job) {
    const id = job.invocation.words[1];
    if (id === undefined) throw usage("key revoke needs an id of: llmnode key list");
    const purge = job.invocation.options.isOn("purge");
    const answer = await postJson(job.client, `${PATH}/revoke`, { id, purge });
    printAnswer(job, answer, null);
    const shown = cleanLine(id, 80);
    tell(job, `${shown}: ${purge ? "revoked and forgotten" : "revoked"}, at once`);
    const { keys, active_keys: active } = read<{ keys: number; active_keys: number | null }>(
      answer,
    );
    if (keys === 0) tell(job, "there is no API key any more: clients need none");
    else if (active === 0) {
      tell(job, "no API key is left that lets clients in (revoke all with --purge to need none)");
    }
  },
};

export const keyCommand: CommandSpec = {
  name: "key",
  usage: "key create|list|revoke <id> [options]",
  summary: "make, list and take back the API keys of clients",
  details: [
    "From the first key on every client needs one. A user's key asks for models; a viewer's also sees",
    "status, requests, logs and metrics; an operator's may change things as well. A key is shown once:",
    "the head keeps a hash of it. What is made or revoked counts at once.",
  ],
  argument: { name: "action", required: true, words: Object.keys(ACTIONS) },
  secondArgument: { name: "id", required: false },
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
    { flag: "json", summary: "print the head's JSON as it is" },
  ],
  examples: [
    "llmnode key create --name alice --models 'Qwen/*' --rpm 60 --expires 30d",
    "llmnode key create --name grafana --role viewer",
    "llmnode key list",
  ],
  async run(invocation, terminal) {
    const [word = "", extra] = invocation.words;
    const action = actionNamed("key", ACTIONS, word);
    if (extra !== undefined && word !== "revoke") {
      throw usage(`key ${word}: unexpected argument "${cleanLine(extra, 80)}"`);
    }
    await action({ client: headClient(invocation), invocation, terminal });
    return EXIT.ok;
  },
};

/** The same limits as at the head, so that a slip is told without asking it. */
function wishOf(options: Options): object {
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

const HEADER = [
  "ID",
  "STATE",
  "ROLE",
  "MODELS",
  "RPM",
  "TPM",
  "CONC",
  "TOKENS/DAY",
  "EXPIRES",
  "NAME",
];

interface Row {
  id: string;
  state: string;
  name: string;
  role: string;
  models: string[] | null;
  requests_per_minute: number | null;
  tokens_per_minute: number | null;
  concurrency: number | null;
  tokens_per_day: number | null;
  expires_at: string | null;
}

function rowOf(row: Row): string[] {
  const limit = (value: number | null) => (value === null ? "" : String(value));
  return [
    row.id,
    row.state,
    row.role,
    row.models?.join(",") ?? "any",
    limit(row.requests_per_minute),
    limit(row.tokens_per_minute),
    limit(row.concurrency),
    limit(row.tokens_per_day),
    row.expires_at === null ? "never" : row.expires_at.slice(0, 16).replace("T", " "),
    row.name,
  ];
}

/** For a person; a program reads the JSON. */
function tell({ invocation, terminal }: HeadJob, text: string): void {
  if (!invocation.options.isOn("json")) terminal.err.write(`${text}\n`);
}

/** The head's own form, of the same version or a newer one that has only more in it. */
function read<T>(answer: string): T {
  return JSON.parse(answer) as T;
}
