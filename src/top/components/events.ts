/** Events, one a line. */

import type { EventRow } from "../../protocol/watch-rows.ts";
import { cutEnd } from "../text/columns.ts";
import { clean, span, type Tone } from "../text/styled.ts";
import { type DrawnLine, drawn, drawnText, rule } from "./drawn.ts";
import { timeOfDay } from "./header.ts";
import { type Column, textColumn } from "./table.ts";

const TONES: Readonly<Record<EventRow["level"], Tone>> = {
  info: "plain",
  warn: "changing",
  error: "broken",
};

export function eventLine(event: EventRow, width: number): DrawnLine {
  const subject = event.worker ?? event.model;
  const who = subject === null ? "" : `${clean(subject, 64)}  `;
  return drawn(
    [
      span(`${timeOfDay(Date.parse(event.time))} `, "dim"),
      span(event.level.toUpperCase().padEnd(5), TONES[event.level]),
      span(` ${who}`, "strong"),
      span(clean(event.text, 400)),
    ],
    width,
  );
}

/** The newest ones, the latest at the top, under a rule. */
export function eventsPane(
  events: readonly EventRow[],
  size: { rows: number; width: number },
): DrawnLine[] {
  const lines = events
    .slice(-Math.max(0, size.rows - 1))
    .reverse()
    .map((event) => eventLine(event, size.width));
  const none = lines.length === 0 ? [drawnText("nothing has happened yet", size.width, "dim")] : [];
  return [rule("events", size.width), ...lines, ...none];
}

export function eventColumns(): Column<EventRow>[] {
  return [
    textColumn("TIME", { min: 8, ideal: 8, priority: 0 }, ({ time }) =>
      timeOfDay(Date.parse(time)),
    ),
    textColumn(
      "LEVEL",
      { min: 5, ideal: 5, priority: 1 },
      ({ level }) => level.toUpperCase(),
      ({ level }) => TONES[level],
    ),
    textColumn("WORKER", { min: 8, ideal: 12, priority: 3 }, ({ worker }, width) =>
      cutEnd(clean(worker ?? "-", 64), width),
    ),
    textColumn("WHAT", { min: 20, ideal: 40, grow: 1, priority: 0 }, ({ text }, width) =>
      cutEnd(clean(text, 400), width),
    ),
  ];
}
