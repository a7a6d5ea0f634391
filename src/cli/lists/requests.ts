/** Requests that run as `llmnode requests` shows them: a row each, or what became of one so far. */

import { WATCH_ROW_FIELDS } from "../../protocol/row-fields.ts";
import type { RequestRow } from "../../protocol/watch-rows.ts";
import { countText, timeText, tokenRateText } from "../../top/text/figures.ts";
import { cleanLine } from "../../util/text.ts";
import type { Listing } from "./listing.ts";
import { cut, type TableStyle } from "../base/table.ts";
import { factLines, TOKENS_PER_S } from "./words.ts";

export const REQUESTS: Listing<RequestRow> = {
  schema: "llmnode.requests/1",
  member: "requests",
  fields: [...WATCH_ROW_FIELDS.requests, "timeline"],
  nameOf: ({ id }) => id,
  columns: [
    { head: "REQUEST", field: "id" },
    { head: "AGE", field: "age_ms", text: ({ age_ms }) => timeText(age_ms) },
    { head: "PHASE", field: "phase", text: phaseText },
    { head: "MODEL", field: "model" },
    { head: "WORKER", field: "worker" },
    { head: "ENGINE", field: "engine", wide: true },
    { head: "KEY", field: "key", text: ({ key }) => key ?? "" },
    { head: "IN", field: "input_tokens", text: ({ input_tokens }) => countText(input_tokens) },
    { head: "OUT", field: "output_tokens", text: ({ output_tokens }) => countText(output_tokens) },
    TOKENS_PER_S,
    { head: "TTFT", field: "ttft_ms", text: ({ ttft_ms }) => timeText(ttft_ms) },
    { head: "QUEUED", field: "queue_ms", wide: true, text: ({ queue_ms }) => timeText(queue_ms) },
    { head: "TRIES", field: "attempts", wide: true },
    { head: "STREAM", field: "stream", wide: true, text: ({ stream }) => (stream ? "yes" : "no") },
    { head: "PATH", field: "path", wide: true },
  ],
};

export function requestLines(row: RequestRow, { columns }: TableStyle): string[] {
  return [
    cut(cleanLine(`${row.id}   ${phaseText(row)}   ${timeText(row.age_ms)}`), columns),
    ...factLines(
      [
        ["path", row.path],
        ["model", row.model],
        ["engine", row.engine],
        ["key", row.key],
        ["tokens in", countText(row.input_tokens)],
        [
          "tokens out",
          `${countText(row.output_tokens)}, ${tokenRateText(row.output_tokens_per_s)}/s`,
        ],
        ["first token", row.ttft_ms === null ? null : `after ${timeText(row.ttft_ms)}`],
        ["waited", timeText(row.queue_ms)],
        ...row.timeline.map(({ at_ms, text }) => [`+${timeText(at_ms)}`, text] as const),
      ],
      columns,
    ),
  ];
}

function phaseText({ phase, attempts }: RequestRow): string {
  return phase === "retry" ? `retry ${attempts - 1}` : phase;
}
