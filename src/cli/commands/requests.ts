/** `llmnode requests`: a line for each request that runs, or what became of some so far. */

import { usage } from "../base/messages.ts";
import type { RequestRow } from "../../protocol/watch-rows.ts";
import { type HeadClient, headClient } from "../client/api.ts";
import { EXIT } from "../base/exit-codes.ts";
import {
  choiceOptions,
  isPlainList,
  LIST_OPTIONS,
  type ListedRows,
  showDetails,
  showList,
} from "../lists/listing.ts";
import { readRequests } from "../client/head-json.ts";
import { rowNamed } from "../client/names.ts";
import type { CommandSpec } from "../base/spec.ts";
import { requestLines, REQUESTS } from "../lists/requests.ts";
import { ALL_ROWS, checkWords } from "../client/watch-frame.ts";

export const requestsCommand: CommandSpec = {
  name: "requests",
  usage: "requests [<request>...] [--filter <words>] [--sort <field>] [--wide] [-q] [--json]",
  summary: "list the requests that run now, or show the history of some",
  details: [
    "<request> is an id, or the beginning of one. PHASE is queued, prefill, decode, or retry with how often. Never",
    "shown: what is asked and what is answered. `llmnode cancel` ends one.",
  ],
  argument: { name: "request", required: false, repeats: true },
  options: [...choiceOptions("'model:qwen age>60k'", "-age_ms"), ...LIST_OPTIONS],
  examples: ["llmnode requests", "llmnode requests --filter phase:queued", "llmnode requests -q"],
  async run(invocation, terminal) {
    const { options, words } = invocation;
    const filter = options.text("filter");
    const sort = options.text("sort") ?? "-age_ms";
    const hasNames = words.length > 0;
    if (hasNames && filter !== null) {
      throw usage("either ids of requests or --filter, not both");
    }
    checkWords("requests", { filter, sort });
    const client = headClient(invocation);
    const none = filter === null ? "no requests run" : "no request has these words";
    const listed = { ...(await runningRequests(client, { filter: filter ?? "", sort })), none };
    const rows = hasNames ? namedRows(words, listed.rows) : listed.rows;
    const shown = { invocation, terminal };
    if (hasNames && !isPlainList(invocation)) showDetails(rows, requestLines, shown);
    else showList(REQUESTS, { ...listed, rows }, shown);
    return EXIT.ok;
  },
};

function namedRows(words: readonly string[], rows: readonly RequestRow[]): RequestRow[] {
  const id = (row: RequestRow) => row.id;
  return [...new Set(words.map((word) => rowNamed(word, { noun: "request", rows, name: id, id })))];
}

/** Throws as `getJson`. */
export async function runningRequests(
  client: HeadClient,
  { filter, sort }: { filter: string; sort: string },
): Promise<Omit<ListedRows<RequestRow>, "none">> {
  const asked = performance.now();
  const words = new URLSearchParams({
    limit: String(ALL_ROWS),
    sort,
    ...(filter ? { filter } : {}),
  });
  const { requests: rows, head, total } = await readRequests(client, words);
  const ageMs = Math.round(performance.now() - asked);
  return { rows, head, ageMs, total, isPart: rows.length >= ALL_ROWS };
}
