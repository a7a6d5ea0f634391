/** Lines of text whose pieces have a meaning; which colours that is, a palette says. */

import { cleanLine } from "../../util/text.ts";
import { cutEnd } from "./columns.ts";

/** What a piece of text is about. */
export type Tone =
  | "plain"
  | "strong"
  | "dim"
  /** The mark of what is well. */
  | "good"
  /** On its way, or near a limit. */
  | "changing"
  /** Meant so by a person. */
  | "intended"
  /** A person is needed now. */
  | "broken"
  | "stale"
  | "lost"
  | "graph"
  | "chosen";

export interface Span {
  text: string;
  tone: Tone;
}

export type Line = readonly Span[];

export function span(text: string, tone: Tone = "plain"): Span {
  return { text, tone };
}

/** A line of one piece. */
export function line(text: string, tone: Tone = "plain"): Line {
  return [{ text, tone }];
}

export function widthOf(spans: Line): number {
  return spans.reduce((sum, { text }) => sum + Bun.stringWidth(text), 0);
}

export function textOf(spans: Line): string {
  return spans.map(({ text }) => text).join("");
}

// oxlint-disable-next-line no-control-regex
const UNSAFE = /[\u0000-\u001f\u007f-\u009f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]/;

/** Exactly `width` cells; what does not fit is cut at the end. */
export function fitLine(spans: Line, width: number): Line {
  const fitted: Span[] = [];
  let used = 0;
  for (const given of spans) {
    // Whatever a caller has forgotten: nothing but text reaches the terminal.
    const piece = UNSAFE.test(given.text) ? { ...given, text: clean(given.text, 4000) } : given;
    const cells = Bun.stringWidth(piece.text);
    if (used + cells <= width) {
      fitted.push(piece);
      used += cells;
      continue;
    }
    const text = cutEnd(piece.text, width - used);
    fitted.push({ ...piece, text });
    used += Bun.stringWidth(text);
    break;
  }
  if (used < width) fitted.push(span(" ".repeat(width - used)));
  return fitted;
}

/** Left and right, with the room between them; the left one is cut when both do not fit. */
export function spread(left: Line, right: Line, width: number): Line {
  const room = width - widthOf(right);
  if (room <= 0) return fitLine(right, width);
  return [...fitLine(left, room), ...right];
}

/** What comes from outside, safe to draw. */
export function clean(text: string, maxChars = 200): string {
  return cleanLine(text, maxChars);
}
