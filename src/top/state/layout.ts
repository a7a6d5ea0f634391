/** How the rows of the screen are shared out between the parts, by its size alone. */

import { hasBanner, REPLICAS_FROM_ROWS, shownFrame, type TopState } from "./state.ts";

export interface Layout {
  /** Too small for anything but one line. */
  tiny: boolean;
  traffic: boolean;
  tabs: boolean;
  /** Rows of the graphs with their heads and feet; 0: none. */
  graphs: number;
  /** Rows of the strip with one mark for each worker; 0: none. */
  strip: number;
  /** Rows of the table, without its head. */
  table: number;
  /** Whether the last one of them says which rows these are. */
  place: boolean;
  /** Rows of the models beside, with their head; 0: none. */
  models: number;
  /** Rows of the events, with their head; 0: none. */
  events: number;
  /** Rows of the replicas of the chosen model, with their head; 0: none. */
  replicas: number;
  message: boolean;
  /** Rows of the banner that shows a problem with the head. */
  banner: number;
}

const MIN_ROWS = 8;
const MIN_COLUMNS = 40;
const GRAPH_ROWS = 6;
/** With so many workers more than the table has rows, each gets a mark. */
const STRIP_COLUMNS = 4;

const TINY: Layout = {
  tiny: true,
  traffic: false,
  tabs: false,
  graphs: 0,
  strip: 0,
  table: 0,
  place: false,
  models: 0,
  events: 0,
  replicas: 0,
  message: false,
  banner: 0,
};

export function layoutOf(state: TopState): Layout {
  const { columns, rows } = state.size;
  if (rows < MIN_ROWS || columns < MIN_COLUMNS) return TINY;
  const frame = shownFrame(state);
  const banner = hasBanner(state) ? 1 : 0;
  const traffic = rows >= 16;
  const tabs = rows >= 16;
  const message = rows >= 24;
  // Title, counters, keys, and the head of the table.
  const fixed = 4 + banner + Number(traffic) + Number(tabs) + Number(message);
  let left = rows - fixed;
  const onWorkers = state.view === "workers" && state.page.kind === "table";
  const graphs = rows >= 45 && columns >= 120 && state.page.kind === "table" ? GRAPH_ROWS : 0;
  left -= graphs;
  const total = frame?.totals.workers.total ?? 0;
  const strip = onWorkers && rows >= 24 && total > left ? stripRows(total, columns) : 0;
  left -= strip;
  const matching = frame !== null && frame.view === state.view ? frame.matching : 0;
  // Where there are no tabs, this is the only place that shows a filter.
  const isFiltered = state.tabs[state.view].filter !== "" && !tabs;
  const hasPlace = (table: number) => table >= 4 && (matching > table || isFiltered);
  const hasPanes = onWorkers || state.view === "models";
  const whole = { ...TINY, tiny: false, traffic, tabs, graphs, strip, message, banner };
  if (!hasPanes || rows < REPLICAS_FROM_ROWS || state.page.kind !== "table") {
    return { ...whole, table: left, place: hasPlace(left) };
  }
  const modelRows = state.view === "workers" ? (frame?.models_beside.length ?? 0) : 0;
  const models = rows >= 35 && modelRows > 0 ? Math.min(2 + modelRows, Math.floor(left * 0.3)) : 0;
  left -= models;
  // The table gets what it needs, the events what is then left; many rows leave them four.
  const least = rows >= 35 ? 6 : strip > 0 ? 0 : Math.min(5, left);
  const most = !onWorkers || rows >= 45 ? 12 : 8;
  const events = Math.max(least, Math.min(left - matching - 1, most));
  const taken = events >= 2 ? Math.min(events, left - 1) : 0;
  return {
    ...whole,
    table: left - taken,
    place: hasPlace(left - taken),
    models,
    events: onWorkers ? taken : 0,
    replicas: onWorkers ? 0 : taken,
  };
}

function stripRows(workers: number, columns: number): number {
  const marks = Math.ceil(Math.min(workers, 1000) / (workers > 800 ? STRIP_COLUMNS : 1));
  return Math.min(3, Math.ceil(marks / columns));
}

/** How many rows of the table are on the screen: by so many a page moves. */
export function pageRowsOf(state: TopState): number {
  const { table, place } = layoutOf(state);
  return Math.max(1, table - Number(place));
}
