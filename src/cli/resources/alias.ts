/** `llmnode alias`: names that stand for models, with weights, fallbacks and presets. */

import { parseAlias } from "../../cluster/aliases/text.ts";
import { LlmnodeError } from "../../protocol/errors.ts";
import { cleanLine } from "../../util/text.ts";
import { fieldsIn, type JsonRecord, list, number, text, texts } from "../../util/json.ts";
import { usage } from "../base/messages.ts";
import { suggest } from "../base/suggest.ts";
import { type Action, column, listAction, minuteOf, resourceCommand, rowsOf } from "./resource.ts";

const ACTIONS: Record<string, Action> = {
  set: {
    needs: "<name>=<model>, such as fast=Qwen/Qwen3-8B",
    ask({ word, options }) {
      understood(word);
      return { body: { alias: word, force: options.isOn("force") } };
    },
    notes: (answer, { word }) => done(`${understood(word).name}: set`, answer),
  },
  list: listAction(
    "aliases",
    [
      column("NAME", "name"),
      column("TARGETS", "text"),
      { head: "NOTE", text: (row) => (row["hides_model"] === true ? "hides a model" : "") },
    ],
    "no aliases (yet). Add one: llmnode alias set fast=<model>",
  ),
  show: {
    needs: "the name of an alias",
    lines: (answer, { word }) => describe(aliasNamed(word, answer)),
    json: (answer, { word }) => ({ schema: answer["schema"], alias: aliasNamed(word, answer) }),
  },
  rm: {
    needs: "the name of an alias",
    ask: ({ word }) => ({ path: "/remove", body: { name: word } }),
    notes: (answer, { word }) => done(`${cleanLine(word, 80)}: removed`, answer),
  },
};

export const aliasCommand = resourceCommand({
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
  path: "/api/v1/aliases",
  actions: ACTIONS,
  wordName: "alias",
  options: [{ flag: "force", summary: "set: also where it hides a model of that name" }],
  examples: [
    "llmnode alias set fast=Qwen/Qwen3-8B",
    "llmnode alias set fast=Qwen/Qwen3-8B:80,Qwen/Qwen3-4B:20",
    "llmnode alias set 'think=Qwen/Qwen3-8B?chat_template_kwargs.enable_thinking=true'",
    "llmnode alias list",
  ],
});

/** What is written wrongly is told without asking the head. Throws `usage`. */
function understood(spec: string): { name: string } {
  try {
    return parseAlias(spec);
  } catch (error) {
    if (error instanceof LlmnodeError && error.code === "bad_request") throw usage(error.message);
    throw error;
  }
}

/** What was done, and what the head warns of. */
function done(what: string, answer: JsonRecord): string[] {
  return [cleanLine(what), ...texts(answer["warnings"]).map((one) => `  ${cleanLine(one)}`)];
}

function aliasNamed(name: string, answer: JsonRecord): JsonRecord {
  const rows = rowsOf(answer, "aliases");
  const found = rows.find((row) => row["name"] === name);
  if (found !== undefined) return found;
  const meant = suggest(
    name,
    rows.flatMap((row) => text(row["name"]) ?? []),
  );
  throw new LlmnodeError("not_found", `there is no alias ${cleanLine(name, 80)}`, {
    hints: meant === null ? ["llmnode alias list"] : [`did you mean ${cleanLine(meant, 80)}?`],
  });
}

function describe(row: JsonRecord): string[] {
  const targets = list(row["targets"]);
  const direct = targets.map(({ model }) => model);
  const models = texts(row["models"]);
  const isPlain = models.every((model) => direct.includes(model));
  return [
    text(row["name"]) ?? "?",
    ...targets.flatMap((target) => {
      const weight = number(target["weight_percent"]);
      return [
        `  ${text(target["model"]) ?? "?"}${weight === null ? "" : `   ${weight} %`}`,
        ...Object.entries(fieldsIn(target["preset"])).map(
          ([key, value]) => `    ${key} = ${JSON.stringify(value)}`,
        ),
      ];
    }),
    ...(isPlain ? [] : [`models   ${models.join(", ")}`]),
    `set      ${minuteOf(text(row["set_at"])) ?? "?"}`,
    ...(row["hides_model"] === true ? ["hides a model of its name"] : []),
  ].map((line) => cleanLine(line));
}
