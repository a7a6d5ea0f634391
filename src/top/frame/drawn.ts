/** A line of the screen as it is drawn, and what drawing depends on beside the state. */

import type { Charset } from "../bars.ts";
import type { GraphStyle } from "../graph.ts";
import { fitLine, type Line, line, type Tone } from "../styled.ts";

export interface DrawOptions {
  charset: Charset;
  graphs: GraphStyle;
}

export interface DrawnLine {
  spans: Line;
  /** The chosen row. */
  chosen?: boolean;
  /** It is old. */
  dimmed?: boolean;
}

export function drawn(spans: Line, width: number): DrawnLine {
  return { spans: fitLine(spans, width) };
}

export function drawnText(text: string, width: number, tone: Tone = "plain"): DrawnLine {
  return drawn(line(text, tone), width);
}

export const BLANK: DrawnLine = { spans: [] };

/** Exactly `rows` lines: cut, or filled with blank ones. */
export function exactly(lines: readonly DrawnLine[], rows: number): DrawnLine[] {
  const cut = lines.slice(0, Math.max(0, rows));
  return [...cut, ...Array.from({ length: Math.max(0, rows - cut.length) }, () => BLANK)];
}

/** `-- title -----------` */
export function rule(title: string, width: number): DrawnLine {
  const text = `-- ${title} `;
  return drawnText(text + "-".repeat(Math.max(0, width - text.length)), width, "dim");
}
