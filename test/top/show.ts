/** Screens for tests and for eyes: a state brought about by events, drawn at a size. */

import { paletteOf } from "../../src/top/text/palette.ts";
import { paintFrame, renderFrame } from "../../src/top/components/frame.ts";
import type { DrawOptions } from "../../src/top/components/drawn.ts";
import { createKeyReader } from "../../src/top/terminal/keys.ts";
import type { TopEvent } from "../../src/top/state/event.ts";
import { reduce } from "../../src/top/state/reduce.ts";
import { startState, type TopOptions, type TopState } from "../../src/top/state/state.ts";
import { textOf } from "../../src/top/text/styled.ts";

export const START = 1_000_000;

export const OPTIONS: TopOptions = {
  head: "http://head-1:8092",
  view: "workers",
  sort: null,
  filter: "",
  intervalMs: null,
  readonly: false,
  who: "ops@desk",
};

export const UTF8: DrawOptions = { charset: "utf8", graphs: "braille" };
export const ASCII: DrawOptions = { charset: "ascii", graphs: "ascii" };

export interface Stage {
  state: TopState;
  now: number;
}

export function stage(columns = 80, rows = 24, options: Partial<TopOptions> = {}): Stage {
  const state = startState({ ...OPTIONS, ...options }, { now: START, size: { columns, rows } });
  return { state, now: START };
}

/** Takes events one after the other; gives what must be done about them. */
export function play(on: Stage, ...events: TopEvent[]) {
  return events.flatMap((event) => {
    const { state, effects } = reduce(on.state, event, on.now);
    on.state = state;
    return effects;
  });
}

export function press(on: Stage, typed: string) {
  const reader = createKeyReader();
  const keys = [...reader.read(new TextEncoder().encode(typed)), ...reader.flush()];
  return play(on, ...keys.map((key) => ({ type: "key" as const, key })));
}

export function wait(on: Stage, ms: number): void {
  on.now += ms;
  play(on, { type: "tick" });
}

export function screen(on: Stage, options: DrawOptions = UTF8): string[] {
  return renderFrame(on.state, options).map(({ spans }) => textOf(spans));
}

/** With colours, as it goes to the terminal. */
export function painted(
  on: Stage,
  options: DrawOptions = UTF8,
  theme: "auto" | "mono" = "auto",
): string[] {
  return paintFrame(renderFrame(on.state, options), paletteOf(theme, true));
}
