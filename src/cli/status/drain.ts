/** Why a worker drains, as `llmnode status` says it: who wants it, since when, until when. */

import { cleanLine } from "../../util/text.ts";
import { clockTime } from "../drain/view.ts";
import { type Fields, fields, text } from "../base/json-fields.ts";

/** Null where no operator ordered it, or something else says more about the worker now. */
export function orderReason(worker: Fields): string | null {
  const order = fields(worker["drain"]);
  const purpose = text(order["purpose"]);
  const state = text(worker["state"]);
  if (purpose === null || !["ready", "draining", "drained"].includes(state ?? "")) return null;
  const since = text(order["since"]);
  const deadline = text(order["deadline"]);
  const message = text(order["message"]);
  const parts = [
    `${purpose} by ${text(order["who"]) ?? "?"}`,
    ...(since === null ? [] : [`since ${clockTime(since)}`]),
    ...(state === "draining" && deadline !== null ? [`deadline ${clockTime(deadline)}`] : []),
    ...stageText(text(order["stage"])),
    ...(message === null ? [] : [message]),
  ];
  return cleanLine(parts.join(", "), 300);
}

function stageText(stage: string | null): string[] {
  if (stage === "queued") return ["waits for its turn"];
  return stage === "restarting" ? ["its engine starts anew"] : [];
}
