/** By what the rows of each view can be sorted. */

import type { View } from "../../protocol/watch-rows.ts";

export interface SortChoice {
  /** As the head knows it. */
  field: string;
  words: string;
  /** Whether the largest comes first at the start. */
  descending: boolean;
}

function choice(field: string, words: string, descending = false): SortChoice {
  return { field, words, descending };
}

export const SORTABLE: Readonly<Record<View, readonly SortChoice[]>> = {
  workers: [
    choice("problems", "problems"),
    choice("name", "name"),
    choice("in_flight", "in flight", true),
    choice("queue", "queue", true),
    choice("output_tokens_per_s", "tok/s", true),
    choice("gpu_util_pct", "gpu", true),
    choice("gpu_mem_used_bytes", "mem", true),
    choice("ttft_ms", "ttft", true),
    choice("temp_c", "temp", true),
    choice("uptime_ms", "up", true),
  ],
  models: [
    choice("problems", "problems"),
    choice("name", "name"),
    choice("in_flight", "in flight", true),
    choice("queued", "queue", true),
    choice("requests_per_s", "req/s", true),
    choice("output_tokens_per_s", "tok/s", true),
    choice("ttft_ms", "ttft", true),
    choice("error_ratio", "errors", true),
  ],
  requests: [
    choice("age_ms", "age", true),
    choice("input_tokens", "in", true),
    choice("output_tokens", "out", true),
    choice("output_tokens_per_s", "tok/s", true),
    choice("model", "model"),
    choice("worker", "worker"),
  ],
  events: [choice("id", "time", true), choice("level", "level"), choice("worker", "worker")],
};

/** How a view is sorted until a person chooses. */
export const FIRST_SORT: Readonly<Record<View, string>> = {
  workers: "problems",
  models: "problems",
  requests: "-age_ms",
  events: "-id",
};

/** `-age_ms` as it is shown: `age desc`. */
export function sortText(view: View, sort: string): string {
  const field = sort.replace(/^-/, "");
  const words = SORTABLE[view].find((one) => one.field === field)?.words ?? field;
  return sort.startsWith("-") ? `${words} desc` : words;
}
