/** Brings frames to a terminal at its own pace: one is on its way, the newest waits, others go. */

import { drawChanges, type Screen } from "./screen.ts";

export interface FrameSink {
  /** Shows it as soon as the terminal has taken what is on its way; never waits. */
  show(screen: Screen): void;
  /** Forgets what is on the terminal: the next frame is drawn whole. */
  redraw(): void;
  /** Frames that were never shown since a newer one had come. */
  readonly dropped: number;
  /** Of those, how many one after the other, up to now. */
  readonly droppedInARow: number;
  /** Settles when everything that was shown has been taken, or the terminal is gone. */
  settled(): Promise<void>;
}

/** `write` takes bytes in order and settles when they are taken; it rejects when all is over. */
export function createFrameSink(
  write: (bytes: string) => Promise<void>,
  onGone: (error: unknown) => void,
): FrameSink {
  let onTerminal: Screen | null = null;
  let waiting: Screen | null = null;
  let writing: Promise<void> | null = null;
  let dropped = 0;
  let droppedInARow = 0;
  let isGone = false;

  const run = async () => {
    while (waiting !== null && !isGone) {
      const screen: Screen = waiting;
      waiting = null;
      const bytes = drawChanges(onTerminal, screen);
      onTerminal = screen;
      if (bytes === "") continue;
      try {
        await write(bytes);
        droppedInARow = 0;
      } catch (error) {
        isGone = true;
        onGone(error);
      }
    }
  };

  return {
    show(screen) {
      if (isGone) return;
      if (waiting !== null) {
        dropped += 1;
        droppedInARow += 1;
      }
      waiting = screen;
      writing ??= run().finally(() => {
        writing = null;
      });
    },
    redraw() {
      onTerminal = null;
    },
    get dropped() {
      return dropped;
    },
    get droppedInARow() {
      return droppedInARow;
    },
    async settled() {
      while (writing !== null) await writing;
    },
  };
}
