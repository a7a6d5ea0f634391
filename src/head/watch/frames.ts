/** What one viewer sees at one instant: the rows of the chosen view, and what every view shows. */

import { chooseRows, orderRows } from "../../cluster/rows/order.ts";
import { FilterError } from "../../protocol/filter.ts";
import {
  type HeadFacts,
  WATCH_SCHEMA,
  type WatchFrame,
  type WatchQuery,
} from "../../protocol/watch-json.ts";
import type { EventRow, ModelRow, RequestRow, WorkerRow } from "../../protocol/watch-rows.ts";
import type { Events } from "../events/events.ts";
import type { WatchData, WatchSource } from "./data.ts";

export interface FrameSource {
  source: WatchSource;
  events: Events;
  head: () => Omit<HeadFacts, "time" | "api_url">;
  now: () => number;
}

const EVENTS_IN_FRAME = 20;

/** `number` counts the frames of a stream; `seenPoints` are those of the history that it has shown. */
export function frameOf(
  from: FrameSource,
  query: WatchQuery,
  { data, number, seenPoints }: { data: WatchData; number: number; seenPoints: number },
): WatchFrame {
  const { source, events } = from;
  const { rows, total, problem } = rowsFor({ ...from, data }, query);
  const { id, uptime_ms } = from.head();
  return {
    schema: WATCH_SCHEMA,
    frame: number,
    time: new Date(from.now()).toISOString(),
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
    point: source.history.count > seenPoints ? source.history.latest : null,
    detail: detailOf({ source, data }, query),
  };
}

type Row = WorkerRow | ModelRow | RequestRow | EventRow;

type DataSource = Pick<FrameSource, "source" | "events"> & { data: WatchData };

function rowsFor(
  from: DataSource,
  query: WatchQuery,
): { rows: readonly Row[]; total: number; problem: WatchFrame["filter_problem"] } {
  const all = allRows(from, query);
  try {
    const rows = orderRows(query.view, chooseRows(query.view, all, query.filter), query.sort);
    return { rows, total: all.length, problem: null };
  } catch (error) {
    if (!(error instanceof FilterError)) throw error;
    // Nothing is shown for a wrong filter: all rows would look like a match.
    return { rows: [], total: all.length, problem: { message: error.message, at: error.at } };
  }
}

function allRows({ source, events, data }: DataSource, { view, gone }: WatchQuery): readonly Row[] {
  switch (view) {
    case "workers": {
      const { workers } = data;
      return gone ? workers : workers.filter(({ state }) => state !== "left");
    }
    case "models":
      return data.models;
    case "requests":
      return source.requests();
    case "events":
      return events.list();
  }
}

function detailOf(
  { source, data }: Pick<DataSource, "source" | "data">,
  { view, detail }: WatchQuery,
): WatchFrame["detail"] {
  if (detail === null) return null;
  if (view === "models") {
    const row = data.models.find(({ name }) => name === detail);
    return row ? { model: source.model(row) } : null;
  }
  const worker = source.worker(detail);
  return worker && { worker };
}

function busiest(models: readonly ModelRow[], count: number): ModelRow[] {
  if (count <= 0) return [];
  return models
    .toSorted(
      (a, b) => b.in_flight + b.queued - (a.in_flight + a.queued) || (a.name < b.name ? -1 : 1),
    )
    .slice(0, count);
}
