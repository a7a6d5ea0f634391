/** Events as `llmnode events` shows them. */

import { WATCH_ROW_FIELDS } from "../../protocol/row-fields.ts";
import type { EventRow } from "../../protocol/watch-rows.ts";
import { cleanLine } from "../../util/text.ts";
import { clockTime } from "../drain/view.ts";
import type { Listing } from "./listing.ts";

export const EVENTS: Listing<EventRow> = {
  schema: "llmnode.events/1",
  member: "events",
  fields: WATCH_ROW_FIELDS.events,
  nameOf: ({ id }) => String(id),
  columns: [
    { head: "TIME", field: "time", text: ({ time }) => clockTime(time) },
    { head: "ID", field: "id", wide: true },
    { head: "LEVEL", field: "level" },
    { head: "KIND", field: "kind" },
    { head: "WORKER", field: "worker", text: ({ worker }) => worker ?? "" },
    { head: "MODEL", field: "model", text: ({ model }) => model ?? "" },
    { head: "WHAT", field: "text" },
  ],
};

/** One that has just happened; the columns are as wide as words usually are. */
export function eventLine({ time, level, kind, worker, model, text }: EventRow): string {
  const about = [worker, model].filter((name) => name !== null).join(" ");
  const words = [clockTime(time), level.padEnd(5), kind.padEnd(9), about, text];
  return cleanLine(words.filter((word) => word !== "").join("  "), 1000);
}
