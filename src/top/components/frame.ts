/** The whole screen: from what is known and its size to lines of text, and nothing else. */

import { paint, type Palette } from "../text/palette.ts";
import { layoutOf, type Layout } from "../state/layout.ts";
import { type Row, rowId, rowsOf } from "../state/rows.ts";
import { freshness, shownFrame, type TopState } from "../state/state.ts";
import { clean } from "../text/styled.ts";
import type { WatchFrame } from "../../protocol/watch-json.ts";
import type { EventRow, ModelRow, RequestRow, WorkerRow } from "../../protocol/watch-rows.ts";
import { modelDetail, replicaLines, requestDetail, workerDetail } from "./detail.ts";
import {
  asciiSpan,
  BLANK,
  type DrawnLine,
  drawn,
  type DrawOptions,
  drawnText,
  exactly,
  rule,
} from "./drawn.ts";
import { eventColumns, eventsPane } from "./events.ts";
import { graphLines, stripLines } from "./graphs.ts";
import { bannerLine, counterLine, tinyLine, titleLine, trafficLine } from "./header.ts";
import { dialogBox, emptyLines, helpLines, waitingLines, withBox } from "./help.ts";
import { logLines } from "./logs.ts";
import { modelColumns, requestColumns } from "./models.ts";
import { type TableOptions, tableLines } from "./table.ts";
import { attentionLine, bottomLine, crumbLine } from "./tabs.ts";
import { workerColumns } from "./workers.ts";

const HISTORY_MS = 2000;

/** Exactly as many lines as the screen has rows, each exactly as wide as it has columns. */
export function renderFrame(state: TopState, options: DrawOptions): DrawnLine[] {
  const { columns: width, rows } = state.size;
  const layout = layoutOf(state);
  if (layout.tiny) return safe(exactly([tinyLine(state, width)], rows), options, width);
  const frame = shownFrame(state);
  const banner = bannerLine(state, width);
  if (state.dialog?.kind === "help") {
    return safe(
      exactly([titleLine(state, width), ...helpLines(state, width)], rows),
      options,
      width,
    );
  }
  const fresh = freshness(state);
  const old = fresh === "stale" || fresh === "auth";
  const top = [
    titleLine(state, width),
    ...(banner ? [banner] : []),
    counterLine(frame, width),
    ...(layout.traffic ? [trafficLine(frame, width)] : []),
    ...(layout.graphs > 0
      ? graphLines(state.frozen?.history ?? state.history, {
          ...options,
          width,
          intervalMs: state.hello?.history.interval_ms ?? HISTORY_MS,
        })
      : []),
    ...(layout.tabs ? [crumbLine(state, width)] : []),
  ];
  const bottom = [
    ...(layout.message ? [attentionLine(state, width)] : []),
    bottomLine(state, width),
  ];
  const room = Math.max(0, rows - top.length - bottom.length);
  const body = exactly(bodyLines(state, { layout, options, room }), room);
  const dim = (lines: DrawnLine[]) =>
    old ? lines.map((one) => ({ ...one, dimmed: true })) : lines;
  const [title, ...others] = top;
  const all = [
    ...(title ? [title] : []),
    ...others.map((one) => (old && one !== banner ? { ...one, dimmed: true } : one)),
    ...dim(body),
    ...bottom,
  ];
  const whole = exactly(all, rows);
  const boxed = dialogBox(state, options, width);
  return safe(boxed.length === 0 ? whole : withBox(whole, boxed, width), options, width);
}

/** As wide as the screen, and nothing that a terminal without UTF-8 would garble. */
function safe(lines: readonly DrawnLine[], { charset }: DrawOptions, width: number): DrawnLine[] {
  return lines.map((one) => {
    const { spans } = drawn(one.spans, width);
    const kept = charset === "utf8" ? spans : spans.map(asciiSpan);
    return { ...one, spans: kept };
  });
}

/** The same as text with colours. */
export function paintFrame(lines: readonly DrawnLine[], palette: Palette): string[] {
  return lines.map(({ spans, ...emphasis }) => paint(spans, palette, emphasis));
}

interface Body {
  layout: Layout;
  options: DrawOptions;
  room: number;
}

function bodyLines(state: TopState, body: Body): DrawnLine[] {
  const { columns: width } = state.size;
  const frame = shownFrame(state);
  const { page } = state;
  if (page.kind === "logs") return logLines(page.logs, { rows: body.room, width });
  if (frame === null) return waitingLines(state, width);
  const detail = frame.detail;
  switch (page.kind) {
    case "worker":
      return detail && "worker" in detail && detail.worker.name === page.name
        ? workerDetail(detail.worker, { ...body.options, width }).slice(page.scroll)
        : [drawnText(`looking for ${page.name}`, width, "dim")];
    case "model":
      return detail && "model" in detail && detail.model.name === page.name
        ? modelDetail(detail.model, width).slice(page.scroll)
        : [drawnText(`looking for ${page.name}`, width, "dim")];
    case "request":
      return requestDetail(requestOf(frame, page.id), width);
    case "table":
      return tableBody(state, frame, body);
  }
}

function requestOf(frame: WatchFrame, id: string): RequestRow | null {
  const rows = rowsOf(frame, "requests") as readonly RequestRow[];
  return rows.find((row) => row.id === id) ?? null;
}

function tableBody(state: TopState, frame: WatchFrame, { layout, options }: Body): DrawnLine[] {
  const { columns: width } = state.size;
  const isEmpty = frame.totals.workers.total === 0 && state.view !== "events";
  if (isEmpty) return emptyLines(state, width);
  const from = Math.max(0, state.tabs[state.view].scroll - frame.offset);
  const window = { from, to: from + layout.table };
  const { head, rows } = tableOf(state, frame, { ...options, ...window });
  // Rows that were asked for just now are on their way.
  const isComing = rows.length === 0 && frame.matching > 0;
  if (rows.length === 0) rows.push(drawnText(isComing ? "..." : nothing(state), width, "dim"));
  const shown = frame.view === state.view ? rows : [drawnText("...", width, "dim")];
  return [
    ...(layout.strip > 0
      ? exactly(stripLines(frame.strip, { width, rows: layout.strip }), layout.strip)
      : []),
    head,
    ...exactly(withPlace(state, shown, layout), layout.table),
    ...(layout.models > 0 ? modelsPane(frame, { ...options, width, rows: layout.models }) : []),
    ...(layout.events > 0
      ? exactly(eventsPane(frame.events, { rows: layout.events, width }), layout.events)
      : []),
    ...(layout.replicas > 0 ? exactly(replicasPane(state, frame), layout.replicas) : []),
  ];
}

function replicasPane(state: TopState, frame: WatchFrame): DrawnLine[] {
  const { columns: width } = state.size;
  const row = rowsOf(frame, "models")[state.tabs.models.cursor - frame.offset];
  const name = row ? rowId(row) : "";
  if (name === "") return [];
  const model = frame.detail && "model" in frame.detail ? frame.detail.model : null;
  const lines =
    model?.name === name ? replicaLines(model, width) : [drawnText("...", width, "dim")];
  return [rule(`replicas of ${clean(name, 60)}`, width), ...lines];
}

/** Which rows these are, on the last line when not all fit. */
function withPlace(state: TopState, rows: DrawnLine[], layout: Layout): DrawnLine[] {
  const room = layout.table;
  const { matching, total } = shownFrame(state) ?? { matching: 0, total: 0 };
  const { filter, scroll } = state.tabs[state.view];
  if (!layout.place) return rows;
  const last = Math.min(scroll + room - 1, matching);
  const of = filter === "" || layout.tabs ? `${matching}` : `${matching} of ${total}`;
  const place = `${Math.min(scroll + 1, matching)}-${last} of ${of}`;
  const { columns: width } = state.size;
  const kept = exactly(rows, room - 1);
  return [...kept, drawnText(place.padStart(Math.floor((width + place.length) / 2)), width, "dim")];
}

function nothing(state: TopState): string {
  const { filter } = state.tabs[state.view];
  if (filter !== "") return `nothing matches /${filter} (Esc clears the filter)`;
  const words = {
    workers: "no workers",
    models: "no models yet",
    requests: "no requests are running",
    events: "nothing has happened yet",
  };
  return words[state.view];
}

function tableOf(
  state: TopState,
  frame: WatchFrame,
  { from, to, ...options }: DrawOptions & { from: number; to: number },
): { head: DrawnLine; rows: DrawnLine[] } {
  // Only what is seen is drawn.
  const rows = frame.rows.slice(from, to);
  const { view, tabs, marks, wide } = state;
  const cursor = rowsOf(frame, view)[tabs[view].cursor - frame.offset];
  const chosen = cursor ? rowId(cursor) : null;
  const how = { ...unmarked(state.size.columns), chosen, marks, wide };
  return frame.view === view ? viewTable(frame, rows, { ...options, ...how }) : NO_TABLE;
}

const NO_TABLE = { head: BLANK, rows: [] };

/** How a table is drawn that nobody moves in. */
export function unmarked(width: number): TableOptions<Row> {
  return { width, id: rowId, chosen: null, marks: new Set(), wide: false };
}

/** The table of a frame's view, with those of its rows that are given. */
export function viewTable(
  { view }: WatchFrame,
  rows: readonly Row[],
  options: DrawOptions & TableOptions<Row>,
): { head: DrawnLine; rows: DrawnLine[] } {
  switch (view) {
    case "workers":
      return tableLines(workerColumns(options), rows as readonly WorkerRow[], options);
    case "models":
      return tableLines(modelColumns(), rows as readonly ModelRow[], options);
    case "requests":
      return tableLines(requestColumns(), rows as readonly RequestRow[], options);
    case "events":
      return tableLines(eventColumns(), rows as readonly EventRow[], options);
  }
}

function modelsPane(
  frame: WatchFrame,
  { width, rows }: DrawOptions & { width: number; rows: number },
): DrawnLine[] {
  const table = tableLines(modelColumns(), frame.models_beside, unmarked(width));
  return exactly([rule("models", width), table.head, ...table.rows], rows);
}
