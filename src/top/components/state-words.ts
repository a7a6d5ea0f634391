/** A state as it is shown: its mark, its word, and what they mean. */

import { type RowState, STATE_MARKS } from "../../protocol/watch-rows.ts";
import { fitText } from "../text/columns.ts";
import { clean, type Line, span, type Tone } from "../text/styled.ts";

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

/** A newer head may know a state that we do not: it is shown by its word alone. */
function looksOf(state: RowState): { mark: string; tone: Tone } {
  const isKnown = Object.hasOwn(TONES, state);
  return isKnown ? { mark: STATE_MARKS[state], tone: TONES[state] } : { mark: "?", tone: "plain" };
}

/** The words of a start or an end say more than that there was one. */
function shortWord(state: RowState, detail: string): string {
  if (state === "starting" && /^[a-z]/i.test(detail)) return "";
  if (state === "failed" && detail !== "") return "";
  return state === "draining" ? "drain" : state;
}

/** `x lost 42s`: with its detail where there is room for it. */
export function stateSpans(
  row: { state: RowState; state_detail: string | null },
  width: number,
): Line {
  const { state, state_detail } = row;
  const stated = state_detail ? clean(state_detail, 60) : "";
  const detail = state === "draining" ? stated.replace(/ left$/, "") : stated;
  const words = [clean(shortWord(state, detail), 20), detail].filter((part) => part !== "");
  const { mark, tone } = looksOf(state);
  return [
    span(mark, state === "ready" ? "good" : tone),
    span(fitText(` ${words.join(" ")}`, Math.max(0, width - 1)), tone),
  ];
}
