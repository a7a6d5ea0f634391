/** The one reader of the head's JSON: rows of a schema that this version knows, or an error. */

import { LlmnodeError } from "../../protocol/errors.ts";
import {
  type EventsJson,
  type RequestsJson,
  STATUS_SCHEMA,
  type StatusJson,
  WATCH_SCHEMA,
  type WatchFrame,
} from "../../protocol/watch-json.ts";
import { fieldsIn, isRecord, parseJson } from "../../util/json.ts";
import { getJson, type HeadClient } from "./api.ts";

/** Of a field: the type of its value, in brackets that of each in a list; `?` for what may be null. */
type Kind = "text" | "text?" | "number" | "number?" | "flag" | "object" | "object?";
type Shape = { readonly [field: string]: Kind | readonly [Kind | Shape] };

const GPU: Shape = {
  index: "number",
  uuid: "text",
  name: "text",
  util_pct: "number?",
  mem_used_bytes: "number?",
  mem_total_bytes: "number?",
  temp_c: "number?",
  power_w: "number?",
};

const ENGINE: Shape = {
  name: "text",
  worker: "text",
  kind: "text",
  state: "text",
  state_detail: "text?",
  engine_state: "text",
  phase: "text?",
  reason: "text?",
  hint: "text?",
  failure: "text?",
  evidence: ["text"],
  models: ["text"],
  gpu_uuids: ["text"],
  state_ms: "number",
  in_flight: "number",
  restarts: "number",
  replicas: [{ name: "text", state: "text", in_flight: "number" }],
};

const WORKER: Shape = {
  id: "text",
  name: "text",
  state: "text",
  state_detail: "text?",
  reason: "text?",
  models: [{ name: "text", engines: "number" }],
  gpus: [GPU],
  gpu_problem: "text?",
  in_flight: "number",
  seen_ms: "number",
  route: "text?",
  address: "text",
  version: "text",
  labels: "object",
  drain: "object?",
};

const MODEL: Shape = {
  name: "text",
  alias_of: "text?",
  state: "text",
  ready: "number",
  replicas: "number",
  in_flight: "number",
  queued: "number",
  kinds: ["text"],
  workers: ["text"],
};

const DETAILED: Shape = {
  ...WORKER,
  gpus: [{ ...GPU, unified: "flag", mig_parent: "text?", age_ms: "number" }],
  host: "object?",
  engines: [ENGINE],
};

const STATUS: Shape = { head: "object", workers: [DETAILED], models: [MODEL], services: [MODEL] };
const REQUEST: Shape = {
  id: "text",
  age_ms: "number",
  phase: "text",
  path: "text",
  model: "text?",
  worker: "text?",
  output_tokens: "number",
  queue_ms: "number",
  attempts: "number",
  timeline: [{ at_ms: "number", text: "text" }],
};
const EVENT: Shape = {
  id: "number",
  time: "text",
  level: "text",
  kind: "text",
  worker: "text?",
  model: "text?",
  text: "text",
};
const VIEWS: Readonly<Record<WatchFrame["view"], Shape>> = {
  workers: { rows: [WORKER] },
  models: { rows: [MODEL] },
  requests: { rows: [REQUEST] },
  events: { rows: [EVENT] },
};

/** `GET /api/v1/status`. Throws as `getJson`, and `bad_message`. */
export async function readStatus(client: HeadClient): Promise<StatusJson> {
  return parseStatus(await getJson(client, "/api/v1/status"), client);
}

export function parseStatus(body: string, client: { url: string }): StatusJson {
  return parse<StatusJson>(body, { schema: STATUS_SCHEMA, shape: STATUS }, client);
}

/** `GET /api/v1/requests`, with these words. Throws as `getJson`, and `bad_message`. */
export async function readRequests(
  client: HeadClient,
  words: URLSearchParams,
): Promise<RequestsJson> {
  const body = await getJson(client, `/api/v1/requests?${words}`);
  const shape = { head: "object", total: "number", requests: [REQUEST] } satisfies Shape;
  return parse<RequestsJson>(body, { schema: "llmnode.requests/1", shape }, client);
}

/** `GET /api/v1/events`, with these words. Throws as `getJson`, and `bad_message`. */
export async function readEvents(client: HeadClient, words: URLSearchParams): Promise<EventsJson> {
  const body = await getJson(client, `/api/v1/events?${words}`);
  const shape = { head: "object", events: [EVENT] } satisfies Shape;
  return parse<EventsJson>(body, { schema: "llmnode.events/1", shape }, client);
}

/** A frame of `GET /api/v1/watch`. Throws `bad_message`. */
export function parseFrame(
  data: string,
  view: WatchFrame["view"],
  client: { url: string },
): WatchFrame {
  return parse<WatchFrame>(data, { schema: WATCH_SCHEMA, shape: VIEWS[view] }, client);
}

/** Fields that are new to this version are passed on as they are. */
function parse<T>(
  body: string,
  { schema, shape }: { schema: string; shape: Shape },
  { url }: { url: string },
): T {
  const value = parseJson(body);
  const given = fieldsIn(value)["schema"];
  const isOther = typeof given === "string" && given !== schema;
  const wrong = given === schema ? faultOf(value, shape, "") : isOther ? "schema" : "it";
  if (wrong === null) return value as T;
  throw new LlmnodeError(
    "bad_message",
    `what the head at ${url} answers is not what this version knows as ${schema} (${wrong})`,
    { hints: ["which is older?   llmnode version, and the head's own log"] },
  );
}

/** Where the first value is that is missing or of another kind; null: there is none. */
function faultOf(
  value: unknown,
  kind: Kind | Shape | readonly [Kind | Shape],
  at: string,
): string | null {
  if (typeof kind === "string") return isOfKind(value, kind) ? null : at;
  if (isList(kind)) {
    if (!Array.isArray(value)) return at;
    const [each] = kind;
    for (const [i, one] of value.entries()) {
      const fault = faultOf(one, each, `${at}[${i}]`);
      if (fault !== null) return fault;
    }
    return null;
  }
  if (!isRecord(value)) return at;
  for (const [name, inner] of Object.entries(kind)) {
    const fault = faultOf(value[name], inner, at === "" ? name : `${at}.${name}`);
    if (fault !== null) return fault;
  }
  return null;
}

function isList(kind: Shape | readonly [Kind | Shape]): kind is readonly [Kind | Shape] {
  return Array.isArray(kind);
}

function isOfKind(value: unknown, kind: Kind): boolean {
  if (kind.endsWith("?") && value === null) return true;
  switch (kind) {
    case "text":
    case "text?":
      return typeof value === "string";
    case "number":
    case "number?":
      return typeof value === "number";
    case "flag":
      return typeof value === "boolean";
    case "object":
    case "object?":
      return isRecord(value);
  }
}
