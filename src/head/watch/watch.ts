/** `GET /api/v1/watch`: frames for each who looks, of what they look at, at their own pace. */

import { chooseRows, orderRows } from "../../cluster/rows/order.ts";
import { LlmnodeError } from "../../protocol/errors.ts";
import { FilterError } from "../../protocol/filter.ts";
import {
  type HeadFacts,
  WATCH_SCHEMA,
  type WatchFrame,
  type WatchHello,
  type WatchLag,
  type WatchQuery,
} from "../../protocol/watch-json.ts";
import type { EventRow, ModelRow, RequestRow, WorkerRow } from "../../protocol/watch-rows.ts";
import type { Events } from "../events/events.ts";
import type { WatchSource } from "./data.ts";

export interface WatchOptions {
  source: WatchSource;
  events: Events;
  head: () => Omit<HeadFacts, "time" | "api_url">;
  now: () => number;
  settings?: Partial<WatchSettings>;
}

export interface WatchSettings {
  /** More are told to come back. */
  maxViewers: number;
  /** Silence after which a comment is sent. */
  keepAliveMs: number;
}

export const WATCH_SETTINGS: WatchSettings = { maxViewers: 64, keepAliveMs: 5000 };

export interface Viewer {
  role: WatchHello["role"];
  /** Where this viewer reaches the head. */
  apiUrl: string;
  /** Called once, when the stream is over. */
  onEnd: () => void;
}

export interface Watch extends Disposable {
  /** Throws `overloaded` when too many look. */
  open(query: WatchQuery, viewer: Viewer): Response;
  /** Another query for a stream that runs. Throws `not_found`. */
  ask(id: string, query: WatchQuery): void;
  /** One frame, for those who look once. */
  frame(query: WatchQuery): WatchFrame;
  readonly viewers: number;
}

const EVENTS_IN_FRAME = 20;
const encoder = new TextEncoder();
const KEEP_ALIVE = encoder.encode(": keep-alive\n\n");

interface Stream {
  ask(query: WatchQuery): void;
  end(): void;
}

export function createWatch(options: WatchOptions): Watch {
  const { source, events, now } = options;
  const settings = { ...WATCH_SETTINGS, ...options.settings };
  const streams = new Map<string, Stream>();

  const frameOf = (query: WatchQuery, count: number, seen: number): WatchFrame => {
    const data = source.data();
    const { rows, total, problem } = rowsFor(query);
    const { id, uptime_ms } = options.head();
    return {
      schema: WATCH_SCHEMA,
      frame: count,
      time: new Date(now()).toISOString(),
      head: { id, uptime_ms, ...data.head },
      totals: data.totals,
      strip: data.strip,
      view: query.view,
      total,
      matching: rows.length,
      offset: query.offset,
      rows: rows.slice(query.offset, query.offset + query.limit) as WorkerRow[],
      models_beside: busiest(data.models, query.models_beside),
      filter_problem: problem,
      events: events.list({ limit: EVENTS_IN_FRAME }),
      attention: data.attention,
      point: source.history.count > seen ? source.history.latest : null,
      detail: detailOf(query),
    };
  };
  const rowsFor = (
    query: WatchQuery,
  ): { rows: readonly Row[]; total: number; problem: WatchFrame["filter_problem"] } => {
    const all = allRows(query);
    try {
      const rows = orderRows(query.view, chooseRows(query.view, all, query.filter), query.sort);
      return { rows, total: all.length, problem: null };
    } catch (error) {
      if (!(error instanceof FilterError)) throw error;
      // Nothing is shown for a filter that says nothing: all of it would look like a match.
      return { rows: [], total: all.length, problem: { message: error.message, at: error.at } };
    }
  };
  const allRows = ({ view, gone }: WatchQuery): readonly Row[] => {
    switch (view) {
      case "workers": {
        const { workers } = source.data();
        return gone ? workers : workers.filter(({ state }) => state !== "left");
      }
      case "models":
        return source.data().models;
      case "requests":
        return source.requests();
      case "events":
        return events.list();
    }
  };
  const detailOf = ({ view, detail }: WatchQuery): WatchFrame["detail"] => {
    if (detail === null) return null;
    if (view === "models") {
      const model = source.model(detail);
      return model && { model };
    }
    const worker = source.worker(detail);
    return worker && { worker };
  };

  return {
    open(query, viewer) {
      if (streams.size >= settings.maxViewers) {
        throw new LlmnodeError(
          "overloaded",
          `Already ${settings.maxViewers} look at the cluster.`,
          {
            retryAfterMs: 10_000,
          },
        );
      }
      const id = crypto.randomUUID();
      const { apiUrl, role, onEnd } = viewer;
      const facts = options.head();
      const hello: WatchHello = {
        schema: WATCH_SCHEMA,
        watch: id,
        head: { ...facts, time: new Date(now()).toISOString(), api_url: apiUrl },
        role,
        query,
        history: source.history.json(),
      };
      const { body, stream } = openStream({
        query,
        hello,
        frame: frameOf,
        points: () => source.history.count,
        keepAliveMs: settings.keepAliveMs,
        onEnd() {
          streams.delete(id);
          onEnd();
        },
      });
      streams.set(id, stream);
      const headers = {
        "content-type": "text/event-stream",
        "cache-control": "no-store",
        "x-accel-buffering": "no",
      };
      return new Response(body, { headers });
    },
    ask(id, query) {
      const stream = streams.get(id);
      if (!stream) throw new LlmnodeError("not_found", "Nobody looks by this name any more.");
      stream.ask(query);
    },
    frame: (query) => frameOf(query, 1, source.history.count),
    get viewers() {
      return streams.size;
    },
    [Symbol.dispose]() {
      for (const stream of [...streams.values()]) stream.end();
    },
  };
}

type Row = WorkerRow | ModelRow | RequestRow | EventRow;

function busiest(models: readonly ModelRow[], count: number): ModelRow[] {
  if (count <= 0) return [];
  return models
    .toSorted(
      (a, b) => b.in_flight + b.queued - (a.in_flight + a.queued) || (a.name < b.name ? -1 : 1),
    )
    .slice(0, count);
}

interface StreamOptions {
  query: WatchQuery;
  hello: WatchHello;
  frame: (query: WatchQuery, count: number, seenPoints: number) => WatchFrame;
  /** Points of the history so far. */
  points: () => number;
  keepAliveMs: number;
  onEnd: () => void;
}

/** A frame is made only when the last one was taken: who reads slowly gets fewer, and is told. */
function openStream(options: StreamOptions): { body: ReadableStream<Uint8Array>; stream: Stream } {
  let { query } = options;
  let controller: ReadableStreamDefaultController<Uint8Array> | null = null;
  let isWanted = false;
  let isDue = true;
  let frames = 0;
  let points = options.points();
  let dropped = 0;
  let sentAt = performance.now();
  let isOver = false;
  let timer: ReturnType<typeof setInterval> | undefined;

  const send = (event: string, data: WatchHello | WatchFrame | WatchLag) => {
    sentAt = performance.now();
    controller?.enqueue(encoder.encode(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`));
  };
  const show = () => {
    if (!isWanted || !isDue || isOver) return;
    isWanted = false;
    isDue = false;
    frames += 1;
    if (dropped > 0) send("lag", { dropped });
    dropped = 0;
    send("frame", options.frame(query, frames, points));
    points = options.points();
  };
  const tick = () => {
    if (isDue) dropped += 1;
    isDue = true;
    show();
    if (isWanted && performance.now() - sentAt >= options.keepAliveMs) {
      sentAt = performance.now();
      controller?.enqueue(KEEP_ALIVE);
    }
  };
  const start = () => {
    clearInterval(timer);
    timer = setInterval(tick, query.interval_ms);
  };
  const end = () => {
    if (isOver) return;
    isOver = true;
    clearInterval(timer);
    options.onEnd();
  };
  const body = new ReadableStream<Uint8Array>(
    {
      start(given) {
        controller = given;
        send("hello", options.hello);
        start();
      },
      pull() {
        isWanted = true;
        show();
        // Until there is something to send again.
        return undefined;
      },
      cancel: end,
    },
    { highWaterMark: 1 },
  );
  return {
    body,
    stream: {
      ask(next) {
        const isOther = next.interval_ms !== query.interval_ms;
        query = next;
        isDue = true;
        if (isOther) start();
        show();
      },
      end() {
        if (isOver) return;
        end();
        controller?.close();
      },
    },
  };
}
