/** The table of models, and that of requests. */

import type { ModelRow, RequestRow } from "../../protocol/watch-rows.ts";
import { cutEnd, cutMiddle } from "../text/columns.ts";
import {
  contextText,
  countText,
  rateText,
  timeText,
  tokenRateText,
  UNKNOWN,
} from "../text/figures.ts";
import { clean, type Tone } from "../text/styled.ts";
import { type Column, numberColumn, textColumn } from "./table.ts";

export function modelColumns(): Column<ModelRow>[] {
  return [
    textColumn("MODEL", { min: 24, ideal: 30, grow: 3, priority: 0 }, (row, width) =>
      cutMiddle(nameOf(row), width),
    ),
    textColumn("REPL", { min: 8, ideal: 8, priority: 0 }, replicasText, replicasTone),
    textColumn(
      "ENGINE",
      { min: 8, ideal: 10, priority: 9 },
      ({ kinds }) => kinds.join(" ") || UNKNOWN,
    ),
    numberColumn("INFL", { min: 4, priority: 1 }, ({ in_flight }) => countText(in_flight)),
    numberColumn(
      "QUE",
      { min: 4, priority: 2 },
      ({ queued }) => countText(queued),
      ({ queued }) => (queued > 0 ? "changing" : "plain"),
    ),
    numberColumn("REQ/S", { min: 5, priority: 4 }, (row) => rateText(row.requests_per_s)),
    numberColumn("TOK/S", { min: 5, priority: 3 }, (row) => tokenRateText(row.output_tokens_per_s)),
    numberColumn("TTFT50", { min: 6, priority: 5 }, ({ ttft_ms }) =>
      timeText(ttft_ms?.p50 ?? null),
    ),
    numberColumn("95", { min: 5, priority: 5 }, ({ ttft_ms }) => timeText(ttft_ms?.p95 ?? null)),
    numberColumn("ITL50", { min: 5, priority: 10 }, ({ itl_ms }) => timeText(itl_ms?.p50 ?? null)),
    numberColumn("95", { min: 5, priority: 10 }, ({ itl_ms }) => timeText(itl_ms?.p95 ?? null)),
    numberColumn("CTX", { min: 4, priority: 8 }, ({ context }) => contextText(context)),
    numberColumn("ERR%", { min: 4, priority: 6 }, errorsText, ({ error_ratio }) =>
      (error_ratio ?? 0) > 0.01 ? "broken" : "plain",
    ),
    textColumn("WHERE", { min: 12, ideal: 22, grow: 2, priority: 11 }, ({ workers }, width) =>
      cutEnd(clean(workers.slice(0, 50).join(" "), 400), width),
    ),
  ];
}

function nameOf({ name, alias_of }: ModelRow): string {
  return alias_of === null ? clean(name) : `${clean(name)} -> ${clean(alias_of)}`;
}

/** `2/4`, with what is on its way: `2+1/4`. */
function replicasText({ ready, starting, replicas, alias_of }: ModelRow): string {
  if (alias_of !== null) return "alias";
  return `${ready}${starting > 0 ? `+${starting}` : ""}/${replicas}`;
}

function replicasTone({ ready, replicas, starting, alias_of }: ModelRow): Tone {
  if (alias_of !== null || ready === replicas) return "plain";
  if (ready === 0) return starting > 0 ? "changing" : "broken";
  return "changing";
}

function errorsText({ error_ratio }: ModelRow): string {
  return error_ratio === null ? UNKNOWN : (error_ratio * 100).toFixed(error_ratio < 0.1 ? 1 : 0);
}

const PHASES: Readonly<Record<RequestRow["phase"], Tone>> = {
  queued: "changing",
  prefill: "plain",
  decode: "plain",
  retry: "changing",
};

export function requestColumns(): Column<RequestRow>[] {
  return [
    textColumn("REQ", { min: 8, ideal: 12, grow: 1, priority: 0 }, ({ id }, width) =>
      cutEnd(clean(id, 128), width),
    ),
    numberColumn("AGE", { min: 5, priority: 0 }, ({ age_ms }) => timeText(age_ms)),
    textColumn("PHASE", { min: 8, ideal: 8, priority: 0 }, phaseText, ({ phase }) => PHASES[phase]),
    textColumn("MODEL", { min: 16, ideal: 18, grow: 3, priority: 2 }, ({ model }, width) =>
      cutMiddle(clean(model ?? UNKNOWN), width),
    ),
    textColumn("WORKER", { min: 8, ideal: 10, grow: 1, priority: 1 }, ({ worker }, width) =>
      cutEnd(clean(worker ?? UNKNOWN), width),
    ),
    textColumn("KEY", { min: 8, ideal: 10, priority: 8 }, ({ key }) => clean(key ?? UNKNOWN, 40)),
    numberColumn("IN", { min: 5, priority: 4 }, ({ input_tokens }) => tokenRateText(input_tokens)),
    numberColumn("OUT", { min: 5, priority: 3 }, ({ output_tokens }) => countText(output_tokens)),
    numberColumn("TOK/S", { min: 5, priority: 5 }, (row) => rateText(row.output_tokens_per_s)),
    numberColumn("TTFT", { min: 5, priority: 6 }, ({ ttft_ms }) => timeText(ttft_ms)),
    numberColumn("QUEUE", { min: 5, priority: 9 }, ({ queue_ms }) => timeText(queue_ms)),
  ];
}

function phaseText({ phase, attempts }: RequestRow): string {
  return phase === "retry" ? `retry ${Math.max(1, attempts - 1)}` : phase;
}
