/** `llmnode workers`: a line for each worker, or everything about some. */

import { usage } from "../base/messages.ts";
import type { WorkerRow } from "../../protocol/watch-rows.ts";
import { type HeadClient, headClient } from "../client/api.ts";
import { EXIT } from "../base/exit-codes.ts";
import {
  choiceOptions,
  isPlainList,
  LIST_OPTIONS,
  showDetails,
  showList,
} from "../lists/listing.ts";
import { rowNamed, workerOf } from "../client/names.ts";
import type { CommandSpec } from "../base/spec.ts";
import { workerLines, WORKERS } from "../lists/workers.ts";
import { ALL_ROWS, checkWords, firstFrame, type SeenFrame } from "../client/watch-frame.ts";

export const workersCommand: CommandSpec = {
  name: "workers",
  aliases: ["worker", "nodes", "node"],
  usage: "workers [<worker>...] [--filter <words>] [--sort <field>] [--wide] [-q] [--json]",
  summary: "list the workers, or show all about some",
  details: [
    "<worker> is a name, or the beginning of an id. A filter has words and field:word, field>number,",
    '"|" between words of which one is enough, "!" before one that must not be. Figures are those of',
    "the last minute; - is not known.",
  ],
  argument: { name: "worker", required: false, repeats: true },
  options: [
    ...choiceOptions("'state:lost|failed gpu>80'", "name"),
    { flag: "all", short: "a", summary: "also those that have left" },
    ...LIST_OPTIONS,
  ],
  examples: [
    "llmnode workers",
    "llmnode workers gpu-01",
    "llmnode workers --filter 'model:qwen state:ready' -q",
    "llmnode workers --json --fields name,state,in_flight",
  ],
  async run(invocation, terminal) {
    const { options, words } = invocation;
    const filter = options.text("filter");
    const sort = options.text("sort") ?? "name";
    const hasNames = words.length > 0;
    if (hasNames && filter !== null) {
      throw usage("either names of workers or --filter, not both");
    }
    checkWords("workers", { filter, sort });
    const client = headClient(invocation);
    const gone = options.isOn("all") || hasNames;
    const seen = await firstFrame(client, { view: "workers", filter: filter ?? "", sort, gone });
    const all = seen.frame.rows as WorkerRow[];
    const rows = hasNames ? await detailsOf(client, words, all) : all;
    const shown = { invocation, terminal };
    const listed = {
      ...listedIn(seen),
      rows,
      none: filter === null ? emptyText(client.url) : "no worker has these words",
    };
    if (hasNames && !isPlainList(invocation)) showDetails(rows, workerLines, shown);
    else showList(WORKERS, listed, shown);
    return EXIT.ok;
  },
};

async function detailsOf(
  client: HeadClient,
  words: readonly string[],
  all: readonly WorkerRow[],
): Promise<WorkerRow[]> {
  const named = { noun: "worker", rows: all, within: workerOf };
  const wanted = new Set(
    words.map((word) => rowNamed(word, { ...named, name: (row) => row.name, id: (row) => row.id })),
  );
  const details: WorkerRow[] = [];
  for (const row of wanted) {
    const query = { view: "workers", limit: 1, gone: true, detail: row.name } as const;
    const { detail } = (await firstFrame(client, query)).frame;
    details.push(detail !== null && "worker" in detail ? detail.worker : row);
  }
  return details;
}

/** What of a frame is told beside its rows. */
export function listedIn(seen: SeenFrame) {
  const { frame } = seen;
  return {
    head: { id: frame.head.id, time: frame.time },
    ageMs: seen.ageMs(),
    total: frame.total,
    // The head's own limit: nobody shall take a part for the whole.
    isPart: frame.matching > ALL_ROWS,
  };
}

/** How a worker comes to this head, as far as its HTTP address tells. */
export function emptyText(url: string): string {
  return `no workers (yet). Add one: llmnode join ${new URL(url).hostname} -- <engine command>`;
}
