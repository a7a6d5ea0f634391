/** Which colours and attributes a meaning has: the 16 colours of the terminal's own theme only. */

import type { Line, Tone } from "./styled.ts";

export const THEMES = ["auto", "mono", "high-contrast", "colorblind"] as const;
export type Theme = (typeof THEMES)[number];

export interface Palette {
  /** SGR parameters of a tone; empty: none. */
  sgr: Readonly<Record<Tone, string>>;
}

const AUTO: Record<Tone, string> = {
  plain: "",
  strong: "1",
  dim: "2",
  good: "32",
  changing: "33",
  intended: "34",
  broken: "1;31",
  stale: "7;33",
  lost: "7;31",
  graph: "36",
  chosen: "7",
};

const SGR: Readonly<Record<Theme, Readonly<Record<Tone, string>>>> = {
  auto: AUTO,
  mono: {
    plain: "",
    strong: "1",
    dim: "",
    good: "",
    changing: "4",
    intended: "",
    broken: "1",
    stale: "4",
    lost: "1;7",
    graph: "",
    chosen: "7",
  },
  "high-contrast": { ...AUTO, dim: "", good: "92", changing: "93", intended: "96", broken: "1;91" },
  // No red beside green: what is broken is magenta, what is well is blue; the word says it too.
  colorblind: { ...AUTO, good: "34", intended: "36", broken: "1;35", lost: "7;35" },
};

/** `NO_COLOR` that is not empty, or `--no-color`, takes away colours, not bold and reverse. */
export function paletteOf(theme: Theme, hasColor: boolean): Palette {
  return { sgr: SGR[hasColor ? theme : "mono"] };
}

const ESC = "\u001b";

export interface Emphasis {
  /** All of it is drawn reverse: the chosen row. */
  chosen?: boolean;
  /** All of it is drawn dim: it is old. */
  dimmed?: boolean;
}

/** The line as text with SGR sequences, which ends as it began: without any. */
export function paint(spans: Line, palette: Palette, { chosen, dimmed }: Emphasis = {}): string {
  let out = "";
  for (const { text, tone } of spans) {
    const codes = [
      palette.sgr[tone],
      chosen === true ? palette.sgr.chosen : "",
      dimmed === true ? palette.sgr.dim : "",
    ].filter((code) => code !== "");
    out += codes.length === 0 ? text : `${ESC}[${codes.join(";")}m${text}${ESC}[0m`;
  }
  return out;
}
