/** The line with the views, and the one with the keys. */

import type { View } from "../../protocol/watch-rows.ts";
import { cutEnd } from "../text/columns.ts";
import { sortText } from "../state/sorts.ts";
import { formatDuration } from "../../util/units.ts";
import { mayAct, shownFrame, type TopState } from "../state/state.ts";
import { clean, fitLine, span, spread, type Span, textOf } from "../text/styled.ts";
import { filterProblem } from "../state/editing.ts";
import { type DrawnLine, drawn, drawnText } from "./drawn.ts";

const TITLES: readonly { view: View; title: string }[] = [
  { view: "workers", title: "1 Workers" },
  { view: "models", title: "2 Models" },
  { view: "requests", title: "3 Requests" },
  { view: "events", title: "4 Events" },
];

function tabsLine(state: TopState, width: number): DrawnLine {
  const { view, tabs, page } = state;
  const tab = tabs[view];
  const left: Span[] = TITLES.flatMap(({ view: one, title }) =>
    one === view ? [span(`[${title}] `, "strong")] : [span(` ${title}  `)],
  );
  const frame = shownFrame(state);
  const of = frame?.view === view ? ` ${frame.matching} of ${frame.total}` : "";
  const filter = tab.filter === "" ? "/-" : `/${clean(tab.filter, 40)}${of}`;
  const group = tab.group === null ? "" : `by ${tab.group}  `;
  const right =
    page.kind === "table" ? `  ${group}sort ${sortText(view, tab.sort)}  ${filter}` : "";
  return { spans: spread(left, [span(cutEnd(right, width - 12))], width) };
}

/** Where one is, on pages below a view. */
export function crumbLine(state: TopState, width: number): DrawnLine {
  const { page, view } = state;
  const title = TITLES.find((one) => one.view === view)?.title.slice(2) ?? "";
  switch (page.kind) {
    case "worker":
    case "model":
      return drawn([span(`${title} > `, "dim"), span(clean(page.name), "strong")], width);
    case "request":
      return drawn([span(`${title} > `, "dim"), span(clean(page.id), "strong")], width);
    case "logs": {
      const { logs } = page;
      const how = logs.follow ? "FOLLOW" : "PAUSED";
      const since = logs.sinceMs === null ? "tail" : `since ${logs.sinceMs / 60_000}m`;
      const run = logs.previous ? "previous run" : "this run";
      const search = logs.search === "" ? "/-" : `/${clean(logs.search, 60)}`;
      return drawn(
        [
          span("logs ", "dim"),
          span(clean(logs.engine), "strong"),
          span(`   ${run}   ${how}   ${since}   ${search}`),
        ],
        width,
      );
    }
    case "table":
      return tabsLine(state, width);
  }
}

/** The line at the bottom: what is being typed, what just happened, or the keys. */
export function bottomLine(state: TopState, width: number): DrawnLine {
  const { editing, flash } = state;
  if (editing) {
    const sign = editing.what === "filter" ? "/" : "search: ";
    const problem = editing.what === "filter" ? filterProblem(state.view, editing.text) : null;
    const problemOfHead =
      editing.what === "filter" ? (state.frame?.filter_problem?.message ?? null) : null;
    const chars = [...clean(editing.text, 600)];
    const spans: Span[] = [
      span(sign, "strong"),
      span(chars.slice(0, editing.cursor).join("")),
      span(chars[editing.cursor] ?? " ", "chosen"),
      span(chars.slice(editing.cursor + 1).join("")),
    ];
    const wrong = problem ?? problemOfHead;
    if (wrong !== null) spans.push(span(`   ${clean(wrong)}`, "broken"));
    return drawn(keepEnd(spans, width), width);
  }
  if (flash) return drawnText(clean(flash.text), width, flash.tone);
  return drawnText(keysOf(state), width, "dim");
}

/** A long line shows its end while it is typed. */
function keepEnd(spans: readonly Span[], width: number): readonly Span[] {
  const over = Bun.stringWidth(textOf(spans)) - width;
  const [sign, before, ...rest] = spans;
  if (over <= 0 || !sign || !before) return spans;
  return [sign, { ...before, text: [...before.text].slice(over).join("") }, ...rest];
}

function keysOf(state: TopState): string {
  const acts = mayAct(state).may;
  if (state.connection.state === "down")
    return "Ctrl-R retry now  / filter  l logs  z freeze  ? help  q quit";
  switch (state.page.kind) {
    case "logs":
      return "f follow  w wrap  / search  n/N next  p prev  0-6 since  Tab engine  Esc back";
    case "worker":
      return `l logs  ${acts ? "D drain  U undrain  R restart  " : ""}Esc back  ? help  q quit`;
    case "request":
      return `l logs  e engines  ${acts ? "K cancel request  " : ""}Esc back  ? help  q quit`;
    case "model":
      return "l logs  y copy name  Esc back  ? help  q quit";
    case "table":
      break;
  }
  if (shownFrame(state)?.totals.workers.total === 0)
    return "y copy join command  4 events  ? help  q quit";
  const acting = {
    workers: "D drain  Space mark",
    models: "y copy name",
    requests: "K cancel request",
    events: "",
  };
  const act = acts ? `  ${acting[state.view]}` : "";
  return `Enter detail  l logs  / filter  s sort${act}  z freeze  ? help  q`;
}

export function attentionLine(state: TopState, width: number): DrawnLine {
  const frame = shownFrame(state);
  if (state.restartedAt !== null && frame) {
    const back = `${frame.totals.workers.total} of ${state.workersBefore} workers back`;
    const ago = formatDuration(state.now - state.restartedAt);
    return drawnText(`head restarted ${ago} ago, ${back}`, width, "changing");
  }
  const wrong = frame?.view === state.view ? frame.filter_problem : null;
  if (wrong) return drawnText(`the filter: ${clean(wrong.message)}`, width, "broken");
  const [first, ...rest] = frame?.attention ?? [];
  if (!first)
    return drawnText(
      frame?.totals.workers.total === 0 ? "waiting for the first worker..." : "",
      width,
    );
  const more = rest.length > 0 ? `  (and ${rest.length} more)` : "";
  return { spans: fitLine([span(clean(first.text, 400), "broken"), span(more)], width) };
}
