/** The whole screen: from what is known and its size to lines of text, and nothing else. */

import { paint, type Palette } from "../palette.ts";
import { layoutOf, type Layout } from "../layout.ts";
import { rowId, rowsOf } from "../rows.ts";
import { freshness, shownFrame, type TopState } from "../state.ts";
import type { WatchFrame } from "../../protocol/watch-json.ts";
import type { EventRow, ModelRow, RequestRow, WorkerRow } from "../../protocol/watch-rows.ts";
import { modelDetail, requestDetail, workerDetail } from "./detail.ts";
import {
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
  if (layout.tiny)
    return exactly([tinyLine(state, width)], rows).map((one) => drawnWhole(one, width));
  const frame = shownFrame(state);
  const banner = bannerLine(state, width);
  const old = freshness(state) === "stale";
  const top = [
    titleLine(state, width),
    ...(banner ? [banner] : []),
    counterLine(frame, width),
    ...(layout.traffic ? [trafficLine(frame, width)] : []),
    ...(layout.graphs > 0
      ? graphLines(state.history, {
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
  const whole = exactly(all, rows).map((one) => drawnWhole(one, width));
  const boxed = dialogBox(state, options, width);
  return boxed.length === 0 ? whole : withBox(whole, boxed, width);
}

/** The same as text with colours. */
export function paintFrame(lines: readonly DrawnLine[], palette: Palette): string[] {
  return lines.map(({ spans, ...emphasis }) => paint(spans, palette, emphasis));
}

function drawnWhole(one: DrawnLine, width: number): DrawnLine {
  return { ...one, spans: drawn(one.spans, width).spans };
}

interface Body {
  layout: Layout;
  options: DrawOptions;
  room: number;
}

function bodyLines(state: TopState, body: Body): DrawnLine[] {
  const { columns: width } = state.size;
  const frame = shownFrame(state);
  const { page, dialog } = state;
  if (dialog?.kind === "help") return helpLines(state, width);
  if (page.kind === "logs") return logLines(page.logs, { rows: body.room, width });
  if (frame === null) return waitingLines(state, body.options, width);
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
  const table = tableOf(state, frame, options);
  const from = Math.max(0, state.tabs[state.view].scroll - frame.offset);
  const rows = table.rows.slice(from, from + layout.table);
  if (rows.length === 0) rows.push(drawnText(nothing(state), width, "dim"));
  const shown = frame.view === state.view ? rows : [drawnText("...", width, "dim")];
  return [
    ...(layout.strip > 0
      ? exactly(stripLines(frame.strip, { width, rows: layout.strip }), layout.strip)
      : []),
    table.head,
    ...exactly(withPlace(state, shown, layout.table), layout.table),
    ...(layout.models > 0 ? modelsPane(frame, { ...options, width, rows: layout.models }) : []),
    ...(layout.events > 0
      ? exactly(eventsPane(frame.events, { rows: layout.events, width }), layout.events)
      : []),
  ];
}

/** Which rows these are, on the last line when not all fit. */
function withPlace(state: TopState, rows: DrawnLine[], room: number): DrawnLine[] {
  const { matching, total } = shownFrame(state) ?? { matching: 0, total: 0 };
  const { filter, scroll } = state.tabs[state.view];
  if ((matching <= room && filter === "") || room < 4) return rows;
  const last = Math.min(scroll + room - 1, matching);
  const of = filter === "" ? `${matching}` : `${matching} of ${total}`;
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
  options: DrawOptions,
): { head: DrawnLine; rows: DrawnLine[] } {
  const { view, tabs, marks, wide } = state;
  const cursor = rowsOf(frame, view)[tabs[view].cursor - frame.offset];
  const chosen = cursor ? rowId(cursor) : null;
  const how: TableOptions<WorkerRow | ModelRow | RequestRow | EventRow> = {
    width: state.size.columns,
    id: rowId,
    chosen,
    marks,
    wide,
  };
  if (frame.view !== view) return { head: BLANK, rows: [] };
  switch (view) {
    case "workers":
      return tableLines(
        workerColumns({ ...options, width: state.size.columns }),
        frame.rows as WorkerRow[],
        how,
      );
    case "models":
      return tableLines(modelColumns(), frame.rows as ModelRow[], how);
    case "requests":
      return tableLines(requestColumns(), frame.rows as RequestRow[], how);
    case "events":
      return tableLines(eventColumns(), frame.rows as EventRow[], how);
  }
}

function modelsPane(
  frame: WatchFrame,
  { width, rows }: DrawOptions & { width: number; rows: number },
): DrawnLine[] {
  const how = { width, id: rowId, chosen: null, marks: new Set<string>(), wide: false };
  const table = tableLines(modelColumns(), frame.models_beside, how);
  return exactly([rule("models", width), table.head, ...table.rows], rows);
}
