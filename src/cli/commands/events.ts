/** `llmnode events`: what has happened in the cluster, and what happens. */

import { usage } from "../base/messages.ts";
import { chooseRows } from "../../cluster/rows/order.ts";
import { LlmnodeError } from "../../protocol/errors.ts";
import type { EventRow } from "../../protocol/watch-rows.ts";
import { type HeadClient, headClient } from "../client/api.ts";
import { EXIT, isRetryable } from "../base/exit-codes.ts";
import { jsonText, LIST_OPTIONS, showList } from "../lists/listing.ts";
import type { Options } from "../base/options.ts";
import type { CommandSpec, Invocation } from "../base/spec.ts";
import { asciiText } from "../base/table.ts";
import type { Terminal } from "../base/terminal.ts";
import { eventLine, EVENTS } from "../lists/events.ts";
import { readEvents } from "../client/head-json.ts";
import { checkWords } from "../client/watch-frame.ts";

const DEFAULT_TAIL = 100;
const POLL_MS = 1000;

export const eventsCommand: CommandSpec = {
  name: "events",
  usage: "events [--since <duration>] [--tail <events>] [-f] [--filter <words>] [--json]",
  summary: "show what has happened: who joined, was lost, crashed, drained, what was retried",
  details: [
    "The head keeps the last 10,000 in memory, until it restarts. With -f --json: one JSON object a",
    "line.",
  ],
  options: [
    { flag: "since", value: "<duration>", summary: "only those of the last 15m, 2h, ..." },
    {
      flag: "tail",
      value: "<events>",
      defaultNote: `${DEFAULT_TAIL}; all with --since`,
      summary: "only the last ones; all: everything that is kept",
    },
    { flag: "follow", short: "f", summary: "go on with what comes, until Ctrl-C" },
    {
      flag: "filter",
      value: "<words>",
      summary: "only those with these words, such as 'kind:lost|crashed worker:gpu-03'",
    },
    ...LIST_OPTIONS,
  ],
  examples: [
    "llmnode events",
    "llmnode events --since 1h --filter level:error",
    "llmnode events -f --json",
  ],
  async run(invocation, terminal) {
    const { options } = invocation;
    const filter = options.text("filter") ?? "";
    checkWords("events", { filter, sort: null });
    const wanted = readWanted(options);
    const client = headClient(invocation);
    if (options.isOn("follow")) {
      if (options.isGiven("fields")) {
        throw usage("--follow shows whole events: leave --fields out");
      }
      await follow({ client, filter, wanted, show: shower(invocation, terminal), terminal });
      return EXIT.ok;
    }
    const asked = performance.now();
    const { rows, head } = await askEvents(client, wanted);
    const listed = {
      rows: chooseRows("events", rows, filter),
      head,
      ageMs: Math.round(performance.now() - asked),
      total: rows.length,
      isPart: false,
      none: filter === "" ? "nothing has happened (yet)" : "no event has these words",
    };
    showList(EVENTS, listed, { invocation, terminal });
    return EXIT.ok;
  },
};

interface Wanted {
  after: number;
  sinceMs: number | null;
  limit: number | null;
}

/** Throws `usage`. */
function readWanted(options: Options): Wanted {
  const sinceMs = options.durationMs("since");
  const isWhole = options.text("tail") === "all";
  const given = isWhole ? null : options.integer("tail", { min: 1, max: 10_000 });
  return {
    after: 0,
    sinceMs,
    limit: given ?? (isWhole || sinceMs !== null ? null : DEFAULT_TAIL),
  };
}

async function askEvents(
  client: HeadClient,
  { after, sinceMs, limit }: Wanted,
): Promise<{ rows: EventRow[]; head: { id: string; time: string } }> {
  const words = new URLSearchParams({
    after: String(after),
    ...(sinceMs === null ? {} : { since_ms: String(sinceMs) }),
    ...(limit === null ? {} : { limit: String(limit) }),
  });
  const { events: rows, head } = await readEvents(client, words);
  return { rows, head };
}

/** How a line of an event that has just come looks. */
function shower({ options }: Invocation, terminal: Terminal): (row: EventRow) => void {
  const isJson = options.isOn("json");
  const isAscii = options.isOn("ascii");
  return (row) => {
    const line = isJson ? jsonText(row) : eventLine(row);
    terminal.out.write(`${isAscii && !isJson ? asciiText(line) : line}\n`);
  };
}

interface Following {
  client: HeadClient;
  filter: string;
  wanted: Wanted;
  show: (row: EventRow) => void;
  terminal: Terminal;
}

/** Goes on for ever; ends when nobody reads what it prints. */
async function follow({ client, filter, wanted, show, terminal }: Following): Promise<void> {
  const remark = (words: string) => terminal.err.write(`(${words})\n`);
  let last: EventRow | null = null;
  let isFirst = true;
  let isAway = false;
  while (!terminal.out.isGone) {
    try {
      const fresh: Fresh = isFirst
        ? { rows: (await askEvents(client, wanted)).rows, note: null }
        : await freshEvents(client, last);
      if (isAway) remark("the head is back");
      isAway = false;
      isFirst = false;
      if (fresh.note !== null) remark(fresh.note);
      for (const row of chooseRows("events", fresh.rows, filter)) show(row);
      last = fresh.rows.at(-1) ?? last;
      await terminal.out.flush();
    } catch (error) {
      const isPassing = error instanceof LlmnodeError && isRetryable(error.code);
      if (!isPassing || isFirst) throw error;
      if (!isAway) remark(`${error.message}; waiting until it is back, Ctrl-C ends this`);
      isAway = true;
    }
    await Bun.sleep(POLL_MS);
  }
}

interface Fresh {
  rows: EventRow[];
  /** What a person should know before them. */
  note: string | null;
}

/**
 * What came after `last`. That one is asked for as well: where it is not what comes first, the head
 * counts from the start again or has dropped some.
 */
export async function freshEvents(client: HeadClient, last: EventRow | null): Promise<Fresh> {
  const from = { after: Math.max(0, (last?.id ?? 0) - 1), sinceMs: null, limit: null };
  const { rows } = await askEvents(client, from);
  if (last === null) return { rows, note: null };
  const [first] = rows;
  if (first?.id === last.id && first.time === last.time) return { rows: rows.slice(1), note: null };
  if (first !== undefined && first.id > last.id) {
    return { rows, note: `${first.id - last.id - 1} events were dropped: they came too fast` };
  }
  const all = await askEvents(client, { after: 0, sinceMs: null, limit: null });
  return { rows: all.rows, note: "the head has restarted" };
}
