/** What is on the terminal: the latest state, drawn once for all that came in one go. */

import { openCanvas } from "./app.tsx";
import type { DrawOptions } from "./components/drawn.ts";
import { paintFrame, renderFrame } from "./components/frame.ts";
import type { TopState } from "./state/state.ts";
import { createFrameSink } from "./terminal/frame-sink.ts";
import { patchScreen, type Screen } from "./terminal/screen.ts";
import type { Tty } from "./terminal/tty.ts";
import type { Palette } from "./text/palette.ts";

export interface DisplayOptions {
  tty: Tty;
  palette: Palette;
  draw: DrawOptions;
  size: TopState["size"];
  /** The terminal is not there any more. */
  onGone: () => void;
  onError: (error: unknown) => void;
}

export interface Display extends Disposable {
  /** Frames in a row that the terminal did not take. */
  readonly droppedInARow: number;
  /** Draws this state soon, or the one that is shown next. */
  show(state: TopState): void;
  resize(size: TopState["size"]): void;
  stop(): void;
}

export function openDisplay(options: DisplayOptions): Display {
  const sink = createFrameSink(options.tty.write, options.onGone);
  let { size } = options;
  let screen: Screen | null = null;
  let next: TopState | null = null;
  let isStopped = false;
  const canvas = openCanvas(size, (changes) => {
    // Ink's last word as it ends would land on the screen that was there before.
    if (isStopped) return;
    screen = patchScreen(screen, changes, size);
    sink.show(screen);
  });

  const draw = () => {
    const state = next;
    next = null;
    if (state === null || isStopped) return;
    try {
      canvas.draw(paintFrame(renderFrame(state, options.draw), options.palette));
    } catch (error) {
      options.onError(error);
    }
  };
  return {
    get droppedInARow() {
      return sink.droppedInARow;
    },
    show(state) {
      if (next === null) queueMicrotask(draw);
      next = state;
    },
    resize(to) {
      size = to;
      canvas.resize(to);
      sink.redraw();
    },
    stop() {
      isStopped = true;
    },
    [Symbol.dispose]() {
      isStopped = true;
      canvas[Symbol.dispose]();
    },
  };
}
