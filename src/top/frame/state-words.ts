/** A state as it is shown: its mark, its word, and what they mean. */

import { type RowState, STATE_MARKS } from "../../protocol/watch-rows.ts";
import { fitText } from "../columns.ts";
import { clean, type Line, span, type Tone } from "../styled.ts";

const TONES: Readonly<Record<RowState, Tone>> = {
  ready: "plain",
  starting: "changing",
  draining: "intended",
  drained: "intended",
  suspect: "broken",
  unhealthy: "broken",
  failed: "broken",
  stale: "stale",
  lost: "lost",
  left: "dim",
};

export function toneOf(state: RowState): Tone {
  return TONES[state];
}

/** The words of a start or an end say more than that there was one. */
function shortWord(state: RowState, detail: string): string {
  if (detail !== "" && (state === "starting" || state === "failed")) return "";
  return state === "draining" ? "drain" : state;
}

/** `x lost 42s`: with its detail where there is room for it. */
export function stateSpans(
  row: { state: RowState; state_detail: string | null },
  width: number,
): Line {
  const { state, state_detail } = row;
  const told = state_detail ? clean(state_detail, 60) : "";
  const detail = state === "draining" ? told.replace(/ left$/, "") : told;
  const words = [shortWord(state, detail), detail].filter((part) => part !== "");
  const mark = span(STATE_MARKS[state], state === "ready" ? "good" : TONES[state]);
  return [mark, span(fitText(` ${words.join(" ")}`, Math.max(0, width - 1)), TONES[state])];
}
