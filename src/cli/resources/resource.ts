/** Commands over one resource of the head: what they ask, and how a person reads its answer. */

import { LlmnodeError } from "../../protocol/errors.ts";
import { cleanLine } from "../../util/text.ts";
import { EXIT } from "../base/exit-codes.ts";
import { fieldsIn, type JsonRecord, list, number, text } from "../../util/json.ts";
import { usage } from "../base/messages.ts";
import type { Options, OptionSpec } from "../base/options.ts";
import type { CommandSpec } from "../base/spec.ts";
import { table } from "../base/table.ts";
import { getJson, headClient, postJson } from "../client/api.ts";
import type { Column } from "../lists/listing.ts";
import { actionNamed } from "../parse/parse.ts";

export interface ResourceCall {
  options: Options;
  /** The word after the action; empty for one that takes none. */
  word: string;
}

export interface Action {
  /** What its word is, as messages say it; absent: it takes none. */
  needs?: string;
  /** What is asked below the resource's path; with a body it changes something. Throws `usage`. */
  ask?: (call: ResourceCall) => { path?: string; body?: object };
  /** Lines for stdout; `width` is the terminal's. */
  lines?: (answer: JsonRecord, call: ResourceCall, width: number | null) => string[];
  notes?: (answer: JsonRecord, call: ResourceCall) => string[];
  /** What `--json` prints; absent: the head's answer as it is. */
  json?: (answer: JsonRecord, call: ResourceCall) => object;
}

export interface Resource extends Pick<CommandSpec, "name" | "usage" | "summary" | "examples"> {
  details: string[];
  /** Of the head's API. */
  path: string;
  /** By their first word; or one alone, without a word of its own. */
  actions: Readonly<Record<string, Action>> | { only: Action };
  /** What an action's word is called in usage lines and completion. */
  wordName?: string;
  options: readonly OptionSpec[];
}

export function resourceCommand(resource: Resource): CommandSpec {
  const { path, actions, wordName, options, ...spec } = resource;
  const only = "only" in actions ? actions.only : null;
  const json: OptionSpec = { flag: "json", summary: "print the head's JSON as it is" };
  return {
    ...spec,
    ...(only === null && {
      argument: { name: "action", required: true, words: Object.keys(actions) },
    }),
    ...(wordName !== undefined && { secondArgument: { name: wordName, required: false } }),
    options: [...options, json],
    async run(invocation, terminal) {
      const [name = "", word] = invocation.words;
      const action = only ?? actionNamed<Action>(spec.name, actions, name);
      checkWord(`${spec.name} ${name}`, action, word);
      const call = { options: invocation.options, word: word ?? "" };
      const { path: below = "", body } = action.ask?.(call) ?? {};
      const client = headClient(invocation);
      const answer =
        body === undefined
          ? await getJson(client, path + below)
          : await postJson(client, path + below, body);
      const read = fieldsIn(JSON.parse(answer));
      const lines = action.lines?.(read, call, terminal.columns) ?? [];
      if (invocation.options.isOn("json")) {
        const shown = action.json ? JSON.stringify(action.json(read, call)) : answer.trimEnd();
        terminal.out.write(`${shown}\n`);
        return EXIT.ok;
      }
      if (lines.length > 0) terminal.out.write(`${lines.join("\n")}\n`);
      for (const note of action.notes?.(read, call) ?? []) terminal.err.write(`${note}\n`);
      return EXIT.ok;
    },
  };
}

function checkWord(command: string, { needs }: Action, word: string | undefined): void {
  if (needs !== undefined && !word) throw usage(`${command} needs ${needs}`);
  if (needs === undefined && word !== undefined) {
    throw usage(`${command}: unexpected argument "${cleanLine(word, 80)}"`);
  }
}

export type ResourceColumn = Required<Pick<Column<JsonRecord>, "head" | "text">>;

/** The list of all there are, under the name `member` in the answer. */
export function listAction(
  member: string,
  columns: readonly ResourceColumn[],
  none: string,
): Action & Required<Pick<Action, "lines" | "notes">> {
  return {
    lines(answer, _, width) {
      const rows = rowsOf(answer, member).map((row) => columns.map((column) => column.text(row)));
      const heads = columns.map(({ head }) => head);
      return rows.length === 0 ? [] : table(heads, rows, { columns: width });
    },
    notes: (answer) => (rowsOf(answer, member).length === 0 ? [none] : []),
  };
}

/** Throws `bad_message` where the answer has no such list. */
export function rowsOf(answer: JsonRecord, member: string): JsonRecord[] {
  if (Array.isArray(answer[member])) return list(answer[member]);
  throw new LlmnodeError("bad_message", "this version does not understand the head's answer");
}

/** A column that shows a field; `unset` where it is null. */
export function column(head: string, field: string, unset = ""): ResourceColumn {
  return {
    head,
    text: (row) => text(row[field]) ?? number(row[field])?.toString() ?? unset,
  };
}

export function timeColumn(head: string, field: string, unset = "never"): ResourceColumn {
  return { head, text: (row) => minuteOf(text(row[field])) ?? unset };
}

/** `2026-11-21 18:30`. */
export function minuteOf(time: string | null): string | null {
  return time === null ? null : time.slice(0, 16).replace("T", " ");
}
