/** `llmnode join-token`: shows, makes, lists and takes back what lets workers in. */

import { usage } from "../base/messages.ts";
import { LlmnodeError } from "../../protocol/errors.ts";
import { cleanLine } from "../../util/text.ts";
import { actionNamed, type HeadJob, printAnswer } from "../parse/actions.ts";
import { getJson, headClient, postJson } from "../client/api.ts";
import { EXIT } from "../base/exit-codes.ts";
import type { Options } from "../base/options.ts";
import type { CommandSpec } from "../base/spec.ts";
import { textTable } from "../base/table.ts";
import { isRecord } from "../../util/json.ts";

const PATH = "/api/v1/join-tokens";

/** Each action's answer of the head, and what a person reads of it on stdout and on stderr. */
const ACTIONS: Record<string, (job: HeadJob) => Promise<void>> = {
  async show(job) {
    const answer = await getJson(job.client, `${PATH}/first`);
    const token = field(answer, "token");
    if (typeof token !== "string") {
      throw new LlmnodeError("not_found", "the head's first join token was revoked", {
        hints: ["make another:   llmnode join-token rotate   (or llmnode join-token create)"],
      });
    }
    printAnswer(job, answer, token);
  },
  async create(job) {
    const answer = await postJson(job.client, PATH, wishOf(job.invocation.options));
    printAnswer(job, answer, String(field(answer, "token")));
    if (!job.invocation.options.isOn("json")) {
      job.terminal.err.write("shown this once; anyone who has it can join a worker\n");
    }
  },
  async rotate(job) {
    const answer = await postJson(job.client, `${PATH}/rotate`, {});
    printAnswer(job, answer, String(field(answer, "token")));
    if (!job.invocation.options.isOn("json")) {
      job.terminal.err.write(
        "the previous one no longer lets workers in; those that are in stay\n",
      );
    }
  },
  async list(job) {
    const answer = await getJson(job.client, PATH);
    const rows = (field(answer, "join_tokens") as Row[]).map(rowOf);
    const lines = textTable(HEADER, rows, job.terminal.columns);
    printAnswer(job, answer, lines.join("\n"));
  },
  async revoke(job) {
    const id = job.invocation.words[1];
    if (id === undefined) throw usage("join-token revoke needs an id of: llmnode join-token list");
    const answer = await postJson(job.client, `${PATH}/revoke`, { id });
    printAnswer(job, answer, null);
    if (!job.invocation.options.isOn("json")) {
      job.terminal.err.write(`${cleanLine(id, 80)}: revoked; workers that joined with it stay\n`);
    }
  },
};

export const joinTokenCommand: CommandSpec = {
  name: "join-token",
  usage: "join-token show|create|list|revoke <id>|rotate [options]",
  summary: "show, make, list and take back what lets workers in",
  details: [
    "show prints the head's first join token; create makes another, with limits, and shows it once;",
    "rotate replaces the first one; revoke takes one back. Workers that are in stay in: each has a",
    "credential of its own, which `llmnode forget` takes back.",
  ],
  argument: { name: "action", required: true, words: Object.keys(ACTIONS) },
  secondArgument: { name: "id", required: false },
  options: [
    { flag: "expires", value: "<duration>", summary: "create: until when it lets workers in" },
    { flag: "uses", value: "<count>", summary: "create: how many workers may join with it" },
    {
      flag: "models",
      value: "<pattern>",
      summary: "create: which models its workers may offer, such as 'Qwen/*'",
    },
    { flag: "note", value: "<text>", summary: "create: what it is for" },
    { flag: "json", summary: "print the head's JSON as it is" },
  ],
  examples: [
    "llmnode join-token show",
    "llmnode join-token create --expires 7d --uses 1 --models 'Qwen/*'",
    "llmnode join-token list",
  ],
  async run(invocation, terminal) {
    const [word = "", extra] = invocation.words;
    const action = actionNamed("join-token", ACTIONS, word);
    if (extra !== undefined && word !== "revoke") {
      throw usage(`join-token ${word}: unexpected argument "${cleanLine(extra, 80)}"`);
    }
    await action({ client: headClient(invocation), invocation, terminal });
    return EXIT.ok;
  },
};

function wishOf(options: Options): object {
  const expires = options.durationMs("expires");
  if (expires === 0) throw options.invalid("expires", "more than zero");
  return {
    expires_in_ms: expires,
    uses: options.integer("uses", { min: 1, max: 1_000_000 }),
    models: options.text("models"),
    note: options.text("note"),
  };
}

const HEADER = ["ID", "STATE", "USES", "EXPIRES", "MODELS", "NOTE"];

interface Row {
  id: string;
  state: string;
  first: boolean;
  expires_at: string | null;
  uses_max: number | null;
  uses: number;
  models: string | null;
  note: string;
}

function rowOf(row: Row): string[] {
  return [
    row.id,
    row.state,
    row.uses_max === null ? String(row.uses) : `${row.uses}/${row.uses_max}`,
    row.expires_at === null ? "never" : row.expires_at.slice(0, 16).replace("T", " "),
    row.models ?? "any",
    row.first ? "the first one" : row.note,
  ];
}

function field(answer: string, name: string): unknown {
  const value: unknown = JSON.parse(answer);
  if (isRecord(value)) {
    const found = Object.entries(value).find(([key]) => key === name);
    if (found) return found[1];
  }
  throw new LlmnodeError("bad_message", "this version does not understand the head's answer");
}
