/** `llmnode alias`: names that stand for models, with weights, fallbacks and presets. */

import { usage } from "../base/messages.ts";
import { parseAlias } from "../../cluster/aliases/text.ts";
import { LlmnodeError } from "../../protocol/errors.ts";
import { cleanLine } from "../../util/text.ts";
import { actionNamed, type HeadJob } from "../parse/actions.ts";
import { getJson, headClient, postJson } from "../client/api.ts";
import { EXIT } from "../base/exit-codes.ts";
import type { CommandSpec } from "../base/spec.ts";
import { suggest } from "../base/suggest.ts";
import { textTable } from "../base/table.ts";
import { isRecord } from "../../util/json.ts";

const PATH = "/api/v1/aliases";

interface Job extends HeadJob {
  /** The word after the action, where it takes one. */
  word: string;
}

interface Action {
  /** What its word is, as messages say it; null: it takes none. */
  needs: string | null;
  run: (job: Job) => Promise<void>;
}

const ACTIONS: Record<string, Action> = {
  set: {
    needs: "<name>=<model>, such as fast=Qwen/Qwen3-8B",
    async run(job) {
      const { name } = understood(job.word);
      const force = job.invocation.options.isOn("force");
      const answer = await postJson(job.client, PATH, { alias: job.word, force });
      tell(job, answer, `${name}: set`);
    },
  },
  list: {
    needs: null,
    async run(job) {
      const answer = await getJson(job.client, PATH);
      const aliases = aliasesIn(answer);
      if (job.invocation.options.isOn("json")) print(job, answer.trimEnd());
      else if (aliases.length > 0) {
        const rows = aliases.map((one) => [one.name, one.text, noteOf(one)]);
        print(job, textTable(["NAME", "TARGETS", "NOTE"], rows, job.terminal.columns).join("\n"));
      } else {
        job.terminal.err.write("no aliases (yet). Add one: llmnode alias set fast=<model>\n");
      }
    },
  },
  show: {
    needs: "the name of an alias",
    async run(job) {
      const answer = await getJson(job.client, PATH);
      const aliases = aliasesIn(answer);
      const found = aliases.find(({ name }) => name === job.word);
      if (!found) throw unknown(job.word, aliases);
      if (job.invocation.options.isOn("json")) {
        print(job, JSON.stringify({ schema: field(answer, "schema"), alias: found }));
      } else print(job, describe(found).join("\n"));
    },
  },
  rm: {
    needs: "the name of an alias",
    async run(job) {
      const answer = await postJson(job.client, `${PATH}/remove`, { name: job.word });
      tell(job, answer, `${cleanLine(job.word, 80)}: removed`);
    },
  },
};

export const aliasCommand: CommandSpec = {
  name: "alias",
  usage: "alias set <name>=<model>|list|show <name>|rm <name> [options]",
  summary: "give models other names, with weights, fallbacks and presets",
  details: [
    "fast=A is another name for the model A. fast=A,B,C tries B while A has no replica, then C.",
    "fast=A:80,B:20 sends 80 of 100 requests to A, and to the other one where one has no replica.",
    "fast=A?temperature=0.2&chat_template_kwargs.enable_thinking=true adds members to the requests",
    "where the client says nothing of them; values are JSON, or else strings. Within a name or value",
    "write , ? & and % as %2C %3F %26 and %25, a dot within a key as %2E, and the colon of a name that",
    "ends like a weight as %3A. Changes count from the next request on.",
  ],
  argument: { name: "action", required: true, words: Object.keys(ACTIONS) },
  secondArgument: { name: "alias", required: false },
  options: [
    { flag: "force", summary: "set: also where it hides a model of that name" },
    { flag: "json", summary: "print the head's JSON as it is" },
  ],
  examples: [
    "llmnode alias set fast=Qwen/Qwen3-8B",
    "llmnode alias set fast=Qwen/Qwen3-8B:80,Qwen/Qwen3-4B:20",
    "llmnode alias set 'think=Qwen/Qwen3-8B?chat_template_kwargs.enable_thinking=true'",
    "llmnode alias list",
  ],
  async run(invocation, terminal) {
    const [action = "", word] = invocation.words;
    const found = actionNamed("alias", ACTIONS, action);
    if (found.needs === null && word !== undefined) {
      throw usage(`alias ${action}: unexpected argument "${cleanLine(word, 80)}"`);
    }
    if (found.needs !== null && !word) throw usage(`alias ${action} needs ${found.needs}`);
    await found.run({ client: headClient(invocation), invocation, terminal, word: word ?? "" });
    return EXIT.ok;
  },
};

/** What is written wrongly is told without asking the head. Throws `usage`. */
function understood(spec: string): { name: string } {
  try {
    return parseAlias(spec);
  } catch (error) {
    if (error instanceof LlmnodeError && error.code === "bad_request") throw usage(error.message);
    throw error;
  }
}

interface AliasRow {
  name: string;
  text: string;
  targets: { model: string; weight_percent: number | null; preset: Record<string, unknown> }[];
  models: string[];
  hides_model: boolean;
  set_at: string;
}

function noteOf({ hides_model }: AliasRow): string {
  return hides_model ? "hides a model" : "";
}

function describe(row: AliasRow): string[] {
  const targets = row.targets.flatMap(({ model, weight_percent, preset }) => [
    `  ${model}${weight_percent === null ? "" : `   ${weight_percent} %`}`,
    ...Object.entries(preset).map(([key, value]) => `    ${key} = ${JSON.stringify(value)}`),
  ]);
  const direct = row.targets.map(({ model }) => model);
  const isPlain = row.models.every((model) => direct.includes(model));
  return [
    row.name,
    ...targets,
    ...(isPlain ? [] : [`models   ${row.models.join(", ")}`]),
    `set      ${row.set_at.slice(0, 16).replace("T", " ")}`,
    ...(row.hides_model ? ["hides a model of its name"] : []),
  ].map((line) => cleanLine(line));
}

function unknown(name: string, aliases: readonly AliasRow[]): LlmnodeError {
  const meant = suggest(
    name,
    aliases.map((row) => row.name),
  );
  return new LlmnodeError("not_found", `there is no alias ${cleanLine(name, 80)}`, {
    hints: meant === null ? ["llmnode alias list"] : [`did you mean ${cleanLine(meant, 80)}?`],
  });
}

/** The head's JSON on stdout, or what was done and what the head warns of, on stderr. */
function tell(job: Job, answer: string, done: string): void {
  if (job.invocation.options.isOn("json")) return print(job, answer.trimEnd());
  job.terminal.err.write(`${cleanLine(done)}\n`);
  for (const warning of field(answer, "warnings") as string[]) {
    job.terminal.err.write(`  ${cleanLine(warning)}\n`);
  }
}

function print({ terminal }: Job, text: string): void {
  terminal.out.write(`${text}\n`);
}

function aliasesIn(answer: string): AliasRow[] {
  return field(answer, "aliases") as AliasRow[];
}

function field(answer: string, name: string): unknown {
  const value: unknown = JSON.parse(answer);
  if (isRecord(value)) {
    const found = Object.entries(value).find(([key]) => key === name);
    if (found) return found[1];
  }
  throw new LlmnodeError("bad_message", "this version does not understand the head's answer");
}
