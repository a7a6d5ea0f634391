/** A line of the screen as it is drawn, and what drawing depends on beside the state. */

import type { Charset } from "../text/bars.ts";
import type { GraphStyle } from "../text/graph.ts";
import { fitLine, type Line, line, type Span, type Tone } from "../text/styled.ts";

export interface DrawOptions {
  charset: Charset;
  graphs: GraphStyle;
}

export interface DrawnLine {
  spans: Line;
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

/** For terminals that know no other characters: as many cells, `~` where text was cut. */
export function asciiSpan({ text, tone }: Span): Span {
  // oxlint-disable-next-line no-control-regex
  if (!/[^\u0020-\u007e]/.test(text)) return { text, tone };
  let kept = "";
  for (const char of text) {
    if (char >= " " && char <= "~") kept += char;
    else kept += char === "…" ? "~" : "?".repeat(Bun.stringWidth(char));
  }
  return { text: kept, tone };
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
