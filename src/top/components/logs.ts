/** The log of an engine. */

import { count } from "../../util/text.ts";
import type { LogLine, LogsState } from "../state/state.ts";
import { clean, span, type Span } from "../text/styled.ts";
import { type DrawnLine, drawn, drawnText } from "./drawn.ts";
import { timeOfDay } from "./header.ts";

const TONES = { error: "broken", warn: "changing", plain: "plain" } as const;

export function logLines(logs: LogsState, size: { rows: number; width: number }): DrawnLine[] {
  const { rows, width } = size;
  const live = logs.live !== null && logs.scroll === 0 ? [logs.live] : [];
  const room = Math.max(1, rows - 2 - live.length);
  const end = Math.max(0, logs.lines.length - logs.scroll);
  const lines: DrawnLine[] = [];
  // From the last one up, since wrapped ones take several rows.
  for (let at = end - 1; at >= 0 && lines.length < room; at -= 1) {
    const one = logs.lines[at];
    if (one) lines.unshift(...oneLine(one, logs, width));
  }
  const shown = lines.slice(-room);
  // What is still being written is one line that changes.
  shown.push(...live.map((text) => drawnText(text, width, "changing")));
  if (shown.length === 0)
    shown.push(drawnText(clean(logs.ended ?? "nothing has been printed yet"), width, "dim"));
  while (shown.length < room + live.length) shown.push(drawnText("", width));
  const skipped =
    logs.skipped > 0
      ? `~~ ${count(logs.skipped, "line")} skipped. All of it: llmnode logs ${clean(logs.engine)} ~~`
      : "";
  const errors = logs.lines.filter(({ level }) => level === "error").length;
  const warnings = logs.lines.filter(({ level }) => level === "warn").length;
  const counts = `${count(logs.lines.length, "line")}, ${count(warnings, "warning")}, ${count(errors, "error")}`;
  const ended = logs.ended === null ? "" : `   ${clean(logs.ended, 200)}`;
  return [...shown, drawnText(skipped, width, "changing"), drawnText(counts + ended, width, "dim")];
}

function oneLine(one: LogLine, logs: LogsState, width: number): DrawnLine[] {
  const time = logs.times && one.time !== null ? `${timeOfDay(Date.parse(one.time))} ` : "";
  const room = Math.max(10, width - time.length);
  const pieces = logs.wrap ? wrapped(one.text, room) : [one.text];
  return pieces.map((text, i) =>
    drawn(
      [
        span(i === 0 ? time : " ".repeat(time.length), "dim"),
        ...found(text, logs.search, TONES[one.level]),
      ],
      width,
    ),
  );
}

function wrapped(text: string, width: number): string[] {
  if (text === "") return [""];
  const pieces: string[] = [];
  let piece = "";
  let used = 0;
  for (const char of text) {
    const cells = Bun.stringWidth(char);
    if (used + cells > width) {
      pieces.push(piece);
      piece = "";
      used = 0;
    }
    piece += char;
    used += cells;
  }
  pieces.push(piece);
  return pieces;
}

/** What is searched stands out. */
function found(text: string, wanted: string, tone: Span["tone"]): Span[] {
  const at = wanted === "" ? -1 : text.toLowerCase().indexOf(wanted.toLowerCase());
  if (at < 0) return [span(text, tone)];
  const end = at + wanted.length;
  return [
    span(text.slice(0, at), tone),
    span(text.slice(at, end), "chosen"),
    span(text.slice(end), tone),
  ];
}
