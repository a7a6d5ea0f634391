/** `llmnode ps`: a line for each engine. */

import { headClient } from "../client/api.ts";
import { EXIT } from "../base/exit-codes.ts";
import { LIST_OPTIONS, showList } from "../lists/listing.ts";
import { noneMeant } from "../client/names.ts";
import type { CommandSpec } from "../base/spec.ts";
import type { EngineRow } from "../../protocol/watch-rows.ts";
import { readStatus } from "../client/head-json.ts";
import { ENGINES } from "../lists/engines.ts";
import { emptyText } from "./workers.ts";

export const psCommand: CommandSpec = {
  name: "ps",
  usage: "ps [<engine>...] [--wide] [-q] [--json]",
  summary: "list the engines that workers run",
  details: [
    "<engine> is a name such as gpu-01/1, or a worker: all of its engines. SINCE is how long it has",
    "been in its state.",
  ],
  argument: { name: "engine", required: false, repeats: true },
  options: LIST_OPTIONS.slice(),
  examples: ["llmnode ps", "llmnode ps gpu-01", "llmnode ps --json --fields name,models,pid"],
  async run(invocation, terminal) {
    const asked = performance.now();
    const client = headClient(invocation);
    const { workers, head } = await readStatus(client);
    const rows = workers.flatMap(({ engines }) => engines);
    const listed = {
      rows: chosen(rows, invocation.words),
      head,
      ageMs: Math.round(performance.now() - asked),
      total: rows.length,
      isPart: false,
      none: emptyText(client.url).replace("no workers", "no engines"),
    };
    showList(ENGINES, listed, { invocation, terminal });
    return EXIT.ok;
  },
};

/** Those that are named, in the order of all. Throws `not_found`. */
function chosen(rows: readonly EngineRow[], words: readonly string[]): readonly EngineRow[] {
  if (words.length === 0) return rows;
  const isNamed = (row: EngineRow, word: string) => row.name === word || row.worker === word;
  const unknown = words.find((word) => !rows.some((row) => isNamed(row, word)));
  if (unknown !== undefined) {
    throw noneMeant(
      unknown,
      "engine",
      rows.map(({ name }) => name),
    );
  }
  return rows.filter((row) => words.some((word) => isNamed(row, word)));
}
