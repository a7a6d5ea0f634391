/** Models as `llmnode models` shows them: a row each, or everything about one. */

import { WATCH_ROW_FIELDS } from "../../protocol/row-fields.ts";
import type { ModelRow } from "../../protocol/watch-rows.ts";
import { contextText, countText, rateText, tokenRateText } from "../../top/text/figures.ts";
import { cleanLine } from "../../util/text.ts";
import { cellsOf, type Listing } from "./listing.ts";
import { cut, table, type TableStyle } from "../base/table.ts";
import { ENGINE_COLUMNS, engineTrouble } from "./engines.ts";
import { factLines, quantilesText, TOKENS_PER_S } from "./words.ts";

export const MODELS: Listing<ModelRow> = {
  schema: "llmnode.models/1",
  member: "models",
  fields: [...WATCH_ROW_FIELDS.models, "engines"],
  nameOf: ({ name }) => name,
  columns: [
    { head: "MODEL", field: "name" },
    { head: "ALIAS OF", field: "alias_of", text: ({ alias_of }) => alias_of ?? "" },
    { head: "STATE", field: "state" },
    { head: "READY", field: "ready", text: ({ ready, replicas }) => `${ready}/${replicas}` },
    { head: "ENGINE", field: "kinds", text: ({ kinds }) => kinds.join(",") || "-" },
    { head: "INFL", field: "in_flight", text: ({ in_flight }) => countText(in_flight) },
    { head: "QUE", field: "queued", text: ({ queued }) => countText(queued) },
    { head: "REQ/S", field: "requests_per_s", text: (row) => rateText(row.requests_per_s) },
    TOKENS_PER_S,
    { head: "TTFT", field: "ttft_ms", text: ({ ttft_ms }) => quantilesText(ttft_ms) },
    { head: "ITL", field: "itl_ms", wide: true, text: ({ itl_ms }) => quantilesText(itl_ms) },
    { head: "ERR", field: "error_ratio", text: ({ error_ratio }) => errorText(error_ratio) },
    { head: "CTX", field: "context", text: ({ context }) => contextText(context) },
    { head: "STARTING", field: "starting", wide: true },
    { head: "DRAINING", field: "draining", wide: true },
    {
      head: "WHERE",
      field: "workers",
      wide: true,
      text: ({ workers }) => workers.join(",") || "-",
    },
  ],
};

export function modelLines(row: ModelRow, style: TableStyle): string[] {
  const { columns } = style;
  const engines = row.engines ?? [];
  return [
    cut(cleanLine(`${row.name}   ${row.state}`), columns),
    ...factLines(
      [
        ["alias of", row.alias_of],
        [
          "replicas",
          `${row.ready} of ${row.replicas} ready, ${row.starting} starting, ${row.draining} draining`,
        ],
        ["context", row.context === null ? null : `${row.context} tokens`],
        ["in flight", `${row.in_flight}, ${row.queued} waiting at the head`],
        [
          "rate",
          `${tokenRateText(row.output_tokens_per_s)} tokens/s, ${rateText(row.requests_per_s)} requests/s`,
        ],
        ["first token", row.ttft_ms === null ? null : `${quantilesText(row.ttft_ms)} (p50/p95)`],
        ["next tokens", row.itl_ms === null ? null : `${quantilesText(row.itl_ms)} each (p50/p95)`],
        [
          "errors",
          row.error_ratio === null ? null : `${errorText(row.error_ratio)} in the last minute`,
        ],
      ],
      columns,
    ),
    ...(engines.length === 0 ? [] : ["", ...table(...cellsOf(ENGINE_COLUMNS, engines), style)]),
    ...engineTrouble(engines, columns),
  ];
}

/** Of 0 to 1: "0.4%". */
function errorText(ratio: number | null): string {
  return ratio === null ? "-" : `${(ratio * 100).toFixed(1)}%`;
}
