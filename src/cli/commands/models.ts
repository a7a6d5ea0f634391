/** `llmnode models`: a line for each model and alias, or everything about some. */

import { usage } from "../base/messages.ts";
import type { ModelRow } from "../../protocol/watch-rows.ts";
import { type HeadClient, headClient } from "../client/api.ts";
import { EXIT } from "../base/exit-codes.ts";
import {
  choiceOptions,
  isPlainList,
  LIST_OPTIONS,
  showDetails,
  showList,
} from "../lists/listing.ts";
import { rowNamed } from "../client/names.ts";
import type { CommandSpec } from "../base/spec.ts";
import { modelLines, MODELS } from "../lists/models.ts";
import { checkWords, firstFrame } from "../client/watch-frame.ts";
import { listedIn } from "./workers.ts";

export const modelsCommand: CommandSpec = {
  name: "models",
  aliases: ["model"],
  usage: "models [<model>...] [--filter <words>] [--sort <field>] [--wide] [-q] [--json]",
  summary: "list the models and aliases, or show all about some",
  details: [
    "READY is how many replicas take requests, of how many there are. QUE waits at the head. Figures",
    "are those of the last minute; - is not known.",
  ],
  argument: { name: "model", required: false, repeats: true },
  options: [...choiceOptions("'state:starting|failed'", "name"), ...LIST_OPTIONS],
  examples: [
    "llmnode models",
    "llmnode models Qwen/Qwen3-8B",
    "llmnode models --sort=-queued --json --fields name,ready,queued",
  ],
  async run(invocation, terminal) {
    const { options, words } = invocation;
    const filter = options.text("filter");
    const sort = options.text("sort") ?? "name";
    const hasNames = words.length > 0;
    if (hasNames && filter !== null) {
      throw usage("either names of models or --filter, not both");
    }
    checkWords("models", { filter, sort });
    const client = headClient(invocation);
    const seen = await firstFrame(client, { view: "models", filter: filter ?? "", sort });
    const all = seen.frame.rows as ModelRow[];
    const rows = hasNames ? await detailsOf(client, words, all) : all;
    const shown = { invocation, terminal };
    const none =
      filter === null
        ? "no models (yet). They come with workers: llmnode join <head> -- <engine command>"
        : "no model has these words";
    if (hasNames && !isPlainList(invocation)) showDetails(rows, modelLines, shown);
    else showList(MODELS, { ...listedIn(seen), rows, none }, shown);
    return EXIT.ok;
  },
};

async function detailsOf(
  client: HeadClient,
  words: readonly string[],
  all: readonly ModelRow[],
): Promise<ModelRow[]> {
  const wanted = new Set(
    words.map((word) => rowNamed(word, { noun: "model", rows: all, name: (row) => row.name })),
  );
  const details: ModelRow[] = [];
  for (const row of wanted) {
    const query = { view: "models", limit: 1, detail: row.name } as const;
    const { detail } = (await firstFrame(client, query)).frame;
    details.push(detail !== null && "model" in detail ? detail.model : row);
  }
  return details;
}
