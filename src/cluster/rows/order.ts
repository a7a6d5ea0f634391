/** Which rows are shown, and in which order: filters and sorts over their fields. */

import { type FieldValue, type FilterFields, parseFilter } from "../../protocol/filter.ts";
import { WATCH_ROW_FIELDS } from "../../protocol/row-fields.ts";
import type { EventRow, ModelRow, RequestRow, View, WorkerRow } from "../../protocol/watch-rows.ts";
import { badness } from "./state.ts";

export type Row = WorkerRow | ModelRow | RequestRow | EventRow;

/** Column heads and short words that people type for fields. */
const ALSO: Readonly<Record<View, Readonly<Record<string, string>>>> = {
  workers: {
    worker: "name",
    model: "models",
    gpu: "gpu_util_pct",
    mem: "gpu_mem_used_bytes",
    infl: "in_flight",
    que: "queue",
    kv: "kv_pct",
    tok: "output_tokens_per_s",
    req: "requests_per_s",
    ttft: "ttft_ms",
    temp: "temp_c",
    w: "power_w",
    up: "uptime_ms",
    seen: "seen_ms",
    label: "labels",
  },
  models: {
    model: "name",
    engine: "kinds",
    infl: "in_flight",
    que: "queued",
    queue: "queued",
    tok: "output_tokens_per_s",
    req: "requests_per_s",
    ttft: "ttft_ms",
    itl: "itl_ms",
    ctx: "context",
    err: "error_ratio",
    where: "workers",
    worker: "workers",
  },
  requests: {
    req: "id",
    age: "age_ms",
    in: "input_tokens",
    out: "output_tokens",
    tok: "output_tokens_per_s",
    ttft: "ttft_ms",
    queue: "queue_ms",
  },
  events: { what: "text", time: "time" },
};

function fieldName(view: View, field: string): string {
  return ALSO[view][field] ?? field;
}

export function isField(view: View, field: string): boolean {
  return WATCH_ROW_FIELDS[view].includes(fieldName(view, field));
}

/** A row's value as filters and sorts see it: of quantiles the median, of lists their names. */
function valueOf(view: View, row: Row, field: string): FieldValue {
  const value = (row as unknown as Record<string, unknown>)[fieldName(view, field)];
  if (value === null || value === undefined) return null;
  if (typeof value === "string" || typeof value === "number" || typeof value === "boolean")
    return value;
  if (Array.isArray(value)) {
    return value.map((item: unknown) => (isNamed(item) ? item.name : String(item)));
  }
  if (typeof value !== "object") return null;
  if ("p50" in value && typeof value.p50 === "number") return value.p50;
  return Object.entries(value).map(([key, item]) => `${key}=${String(item)}`);
}

function isNamed(item: unknown): item is { name: string } {
  return (
    typeof item === "object" && item !== null && "name" in item && typeof item.name === "string"
  );
}

/** What a person sees in a row. */
const TEXTS: Readonly<Record<View, readonly string[]>> = {
  workers: ["name", "state", "state_detail", "models", "reason", "address", "labels", "route"],
  models: ["name", "alias_of", "state", "kinds", "workers"],
  requests: ["id", "phase", "model", "worker", "key", "path"],
  events: ["level", "kind", "worker", "model", "text"],
};

/** Throws FilterError for a filter that cannot be read. */
export function chooseRows<R extends Row>(view: View, rows: readonly R[], filter: string): R[] {
  if (filter.trim() === "") return [...rows];
  const holds = parseFilter(filter, (field) => isField(view, field));
  return rows.filter((row) => holds(fieldsOf(view, row)));
}

function fieldsOf(view: View, row: Row): FilterFields {
  return {
    get: (field) => (isField(view, field) ? valueOf(view, row, field) : undefined),
    text: () =>
      TEXTS[view]
        .map((field) => valueOf(view, row, field))
        .map((value) => (typeof value === "object" ? (value ?? []).join(" ") : String(value)))
        .join(" "),
  };
}

/**
 * A new list in the order of `sort`: a field, `-` in front for descending, or `problems`. Ties by
 * name; what is not known comes last either way. A field that there is not sorts by name.
 */
export function orderRows<R extends Row>(view: View, rows: readonly R[], sort: string): R[] {
  const name = (row: Row) => ("name" in row ? row.name : String(row.id));
  const byName = (a: R, b: R) => compareText(name(a), name(b));
  if (sort === "problems") {
    return [...rows].sort((a, b) => badnessOf(a) - badnessOf(b) || byName(a, b));
  }
  const isDescending = sort.startsWith("-");
  const field = isDescending ? sort.slice(1) : sort;
  if (!isField(view, field)) return [...rows].sort(byName);
  const keyed = rows.map((row) => ({ row, value: firstOf(valueOf(view, row, field)) }));
  keyed.sort((a, b) => {
    if (a.value === null || b.value === null) {
      return Number(a.value === null) - Number(b.value === null) || byName(a.row, b.row);
    }
    const order = compareValues(a.value, b.value);
    return (isDescending ? -order : order) || byName(a.row, b.row);
  });
  return keyed.map(({ row }) => row);
}

function badnessOf(row: Row): number {
  return "state" in row ? badness(row.state) : 0;
}

function firstOf(value: FieldValue): string | number | null {
  if (value === null) return null;
  if (typeof value === "object") return value[0] ?? null;
  return typeof value === "boolean" ? Number(value) : value;
}

function compareValues(a: string | number, b: string | number): number {
  if (typeof a === "number" && typeof b === "number") return a - b;
  return compareText(String(a), String(b));
}

/** By code units: quick, and the same everywhere. */
function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
