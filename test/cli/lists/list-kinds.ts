/** What the JSON of lists has in it, field by field. */

/** Of each field: `?` may be null, `[]` a list of such. */
export type Kinds = Record<string, string>;

const QUANTILES = "object?";

export const WORKER: Kinds = {
  id: "string",
  name: "string",
  state: "string",
  state_detail: "string?",
  reason: "string?",
  models: "object[]",
  gpu_util_pct: "number?",
  gpu_mem_used_bytes: "number?",
  gpu_mem_total_bytes: "number?",
  temp_c: "number?",
  power_w: "number?",
  in_flight: "number",
  queue: "number?",
  kv_pct: "number?",
  requests_per_s: "number?",
  output_tokens_per_s: "number?",
  ttft_ms: QUANTILES,
  uptime_ms: "number?",
  seen_ms: "number",
  route: "string?",
  address: "string",
  version: "string",
  labels: "object",
  gpus: "object[]",
  gpu_problem: "string?",
  drain: "object?",
  host: "object?",
  engines: "object[]?",
  sparkline: "number?[]?",
};

export const MODEL: Kinds = {
  name: "string",
  alias_of: "string?",
  state: "string",
  ready: "number",
  starting: "number",
  draining: "number",
  replicas: "number",
  kinds: "string[]",
  in_flight: "number",
  queued: "number",
  requests_per_s: "number?",
  output_tokens_per_s: "number?",
  ttft_ms: QUANTILES,
  itl_ms: QUANTILES,
  context: "number?",
  error_ratio: "number?",
  workers: "string[]",
  engines: "object[]?",
};

export const ENGINE: Kinds = {
  name: "string",
  worker: "string",
  state: "string",
  state_detail: "string?",
  kind: "string",
  engine_state: "string",
  phase: "string?",
  reason: "string?",
  state_ms: "number",
  port: "number?",
  restarts: "number",
  evidence: "string[]",
  hint: "string?",
  failure: "string?",
  phase_ms: "number?",
  pid: "number?",
  adopted: "boolean",
  container: "string?",
  gpu_uuids: "string[]",
  max_in_flight: "number?",
  gpus_wanted: "number?",
  service: "string?",
  progress_pct: "number?",
  models: "string[]",
  gpus: "number[]?",
  in_flight: "number",
  running: "number?",
  queue: "number?",
  kv_pct: "number?",
  prefix_hit_tokens: "number?",
  prefix_query_tokens: "number?",
  load_age_ms: "number?",
  output_tokens_per_s: "number?",
  ttft_ms: QUANTILES,
  route: "string?",
  replicas: "object[]",
};

export const REQUEST: Kinds = {
  id: "string",
  age_ms: "number",
  phase: "string",
  path: "string",
  model: "string?",
  worker: "string?",
  engine: "string?",
  key: "string?",
  stream: "boolean",
  input_tokens: "number?",
  output_tokens: "number",
  output_tokens_per_s: "number?",
  ttft_ms: "number?",
  queue_ms: "number",
  attempts: "number",
  timeline: "object[]",
};

export const EVENT: Kinds = {
  id: "number",
  time: "string",
  level: "string",
  kind: "string",
  worker: "string?",
  model: "string?",
  text: "string",
};

export function isOfKind(value: unknown, kind: string): boolean {
  if (kind.endsWith("?")) return value === null || isOfKind(value, kind.slice(0, -1));
  if (kind.endsWith("[]")) {
    return Array.isArray(value) && value.every((one) => isOfKind(one, kind.slice(0, -2)));
  }
  if (kind === "object") {
    return typeof value === "object" && value !== null && !Array.isArray(value);
  }
  return typeof value === kind && (kind !== "number" || Number.isFinite(value));
}

/** What of a row is not as `kinds` says; empty: all of it is. */
export function faultsOf(row: Record<string, unknown>, kinds: Kinds): string[] {
  const names = new Set([...Object.keys(row), ...Object.keys(kinds)]);
  return [...names].filter((name) => !isOfKind(row[name], kinds[name] ?? "nothing"));
}
