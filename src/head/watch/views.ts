/** What viewers can ask for: the stream of frames, running requests, events; and cancelling a request. */

import { chooseRows, orderRows } from "../../cluster/rows/order.ts";
import { LlmnodeError } from "../../protocol/errors.ts";
import { FilterError } from "../../protocol/filter.ts";
import {
  type EventsJson,
  type HeadFacts,
  type RequestsJson,
  STATUS_SCHEMA,
  type StatusJson,
} from "../../protocol/watch-json.ts";
import type { LiveRequest } from "../../proxy/record/recording.ts";
import type { RequestRecord } from "../../proxy/record/record.ts";
import type { Events } from "../events/events.ts";
import type { ListFields } from "../http/lists.ts";
import { placeOf, createRequestsTable } from "./requests-table.ts";
import { createRates } from "./rates.ts";
import { createWatch, type Viewer, type Watch, type WatchSettings } from "./watch.ts";
import { startWatchSource, type WatchDataOptions, type WatchSource } from "./data.ts";
import { readWatchQuery, readWatchWords } from "./query.ts";

interface ViewsOptions extends Pick<WatchDataOptions, "state" | "catalog" | "aliases" | "now"> {
  events: Events;
  head: () => Omit<HeadFacts, "time" | "api_url">;
  settings?: Partial<WatchSettings>;
}

export interface Views extends Disposable {
  onLive(live: LiveRequest): void;
  onRecord(record: RequestRecord): void;
  /** `GET /api/v1/watch` */
  watch(words: URLSearchParams, viewer: Viewer): Response;
  /** `POST /api/v1/watch/<id>`: another query for that stream. */
  ask(id: string, body: Record<string, unknown>): void;
  /** `GET /api/v1/status`: the fields of `StatusJson`. */
  status(): ListFields;
  /** `GET /api/v1/requests` */
  requests(words: URLSearchParams): RequestsJson;
  /** `GET /api/v1/events` */
  events(words: URLSearchParams): EventsJson;
  /** Throws `not_found`. */
  cancel(id: string): void;
  source: WatchSource;
  readonly version: string;
  frame: Watch["frame"];
  /** Ends the streams, which would go on for ever. */
  endAll(): void;
}

export function createViews(options: ViewsOptions): Views {
  const { now, events } = options;
  const rates = createRates({ now });
  const requests = createRequestsTable({ now, rates });
  const clients = createClientCount(now);
  const source = startWatchSource({ ...options, rates, requests, clients: clients.count });
  const watch = createWatch({
    source,
    events,
    head: options.head,
    now,
    ...(options.settings && { settings: options.settings }),
  });
  const stamp = () => ({ id: options.head().id, time: new Date(now()).toISOString() });

  return {
    onLive: requests.begun,
    onRecord(record) {
      const outputTokens = requests.ended(record);
      rates.ended(placeOf(record), figuresOf(record, outputTokens));
      clients.note(record.key?.id ?? record.clientAddress);
    },
    watch: (words, viewer) => watch.open(readWatchWords(words), viewer),
    ask: (id, body) => watch.ask(id, readWatchQuery(body)),
    status() {
      const { version, uptime_ms } = options.head();
      return Object.entries({
        schema: STATUS_SCHEMA,
        head: { ...stamp(), version, uptime_ms },
        ...source.status(),
      } satisfies { [field in keyof StatusJson]: unknown });
    },
    requests(words) {
      const query = readWatchWords(words);
      const rows = source.requests();
      const chosen = orFault(() => chooseRows("requests", rows, query.filter));
      const sort = words.get("sort") ?? "-age_ms";
      const ordered = orderRows("requests", chosen, sort);
      return {
        schema: "llmnode.requests/1",
        head: stamp(),
        total: rows.length,
        requests: ordered.slice(query.offset, query.offset + query.limit),
      };
    },
    events(words) {
      const wanted = {
        after: numberIn(words, "after"),
        sinceMs: numberIn(words, "since_ms"),
        limit: numberIn(words, "limit"),
      };
      return { schema: "llmnode.events/1", head: stamp(), events: events.list(wanted) };
    },
    cancel(id) {
      if (requests.cancel(id)) return;
      throw new LlmnodeError("not_found", "There is no such request, or it has ended.");
    },
    source,
    version: options.head().version,
    frame: watch.frame,
    endAll: () => watch[Symbol.dispose](),
    [Symbol.dispose]() {
      watch[Symbol.dispose]();
      source[Symbol.dispose]();
    },
  };
}

/** For so long a client counts after its last request. */
const CLIENT_MS = 60_000;
const MAX_CLIENTS = 10_000;

/** Counts clients by their key, or by their address. */
function createClientCount(now: () => number) {
  /** In the order in which they were seen last. */
  const seenAt = new Map<string, number>();
  return {
    note(client: string) {
      const at = now();
      const seen = seenAt.get(client);
      // Not for every request of a busy client: a second more or less does not matter.
      if (seen !== undefined && at - seen < 1000) return;
      seenAt.delete(client);
      seenAt.set(client, at);
      const [oldest] = seenAt.keys();
      if (seenAt.size > MAX_CLIENTS && oldest !== undefined) seenAt.delete(oldest);
    },
    count() {
      const at = now();
      for (const [client, seen] of seenAt) {
        if (at - seen <= CLIENT_MS) break;
        seenAt.delete(client);
      }
      return seenAt.size;
    },
  };
}

function figuresOf(record: RequestRecord, outputTokens: number) {
  const { usage, firstByteMs, durationMs } = record;
  const output = usage?.output ?? record.chunks;
  const decodingMs = firstByteMs === null ? null : durationMs - firstByteMs;
  return {
    // What its own client ended is no failure of ours.
    isError: record.status >= 500,
    isRetried: record.attempts.length > 1,
    isResumed: record.resume === "resumed",
    inputTokens: usage?.input ?? null,
    outputTokens,
    ttftMs: record.stream ? firstByteMs : null,
    itlMs: record.stream && decodingMs !== null && output > 1 ? decodingMs / (output - 1) : null,
  };
}

function numberIn(words: URLSearchParams, key: string): number | null {
  const text = words.get(key);
  if (text === null || text === "") return null;
  if (/^\d{1,13}$/.test(text)) return Number(text);
  throw new LlmnodeError("bad_request", `${key} must be a whole number.`, { param: key });
}

function orFault<T>(choose: () => T): T {
  try {
    return choose();
  } catch (error) {
    if (!(error instanceof FilterError)) throw error;
    throw new LlmnodeError("bad_request", `filter: ${error.message} (at ${error.at})`, {
      param: "filter",
    });
  }
}
