/** The terminal itself: taken over, written to without ever blocking, and given back as it was. */

import { closeSync, constants, openSync, write, writeSync } from "node:fs";

export interface Tty {
  /** In order; settles when the terminal has taken it all. Rejects when it is gone. */
  write(bytes: string): Promise<void>;
  /** The alternate screen, without a cursor and without wrapping. */
  enter(): Promise<void>;
  /**
   * Back to the screen that was there before, at once, on every way out; safe to call again. A
   * terminal that takes nothing, or is gone, is left as it is: then this is false.
   */
  restore(): boolean;
}

const ESC = "\u001b";
/** Wrapping is off so that a full last column never scrolls; pastes come in brackets. */
const ENTER = `${ESC}[?1049h${ESC}[?25l${ESC}[?7l${ESC}[?2004h`;
const LEAVE = `${ESC}[?2026l${ESC}[0m${ESC}[?2004l${ESC}[?7h${ESC}[?25h${ESC}[?1049l`;

/** Throws the system's error where there is no terminal. */
export function openTty(path = "/dev/tty"): Tty {
  const { O_WRONLY, O_NOCTTY, O_NONBLOCK } = constants;
  // Written to on another thread: there a terminal that takes nothing does not stop us. The second one
  // gives up instead of waiting: the process must be able to end.
  const file = openSync(path, O_WRONLY | O_NOCTTY);
  const lastWord = openSync(path, O_WRONLY | O_NOCTTY | O_NONBLOCK);
  let isOpen = true;
  let wasTaken = false;
  let last: Promise<void> = Promise.resolve();

  const put = (bytes: Buffer): Promise<void> =>
    new Promise((resolve, reject) => {
      write(file, bytes, 0, bytes.length, null, (error, written) => {
        if (error) reject(error);
        else if (written < bytes.length) put(bytes.subarray(written)).then(resolve, reject);
        else resolve();
      });
    });
  const send = (text: string): Promise<void> => {
    if (!isOpen) return Promise.reject(new Error("the terminal was given back"));
    last = last.then(() => put(Buffer.from(text)));
    return last;
  };

  return {
    write: send,
    enter: () => send(ENTER),
    restore() {
      if (!isOpen) return wasTaken;
      isOpen = false;
      try {
        wasTaken = writeSync(lastWord, LEAVE) === LEAVE.length;
      } catch {
        wasTaken = false;
      } finally {
        closeSync(lastWord);
      }
      return wasTaken;
    },
  };
}

/** Its size; what it does not report is taken from the environment, at last 80 by 24. */
export function terminalSize(
  reported: { columns?: number | undefined; rows?: number | undefined },
  env: Record<string, string | undefined>,
): { columns: number; rows: number } {
  return {
    columns: sound(reported.columns) ?? sound(Number(env["COLUMNS"])) ?? 80,
    rows: sound(reported.rows) ?? sound(Number(env["LINES"])) ?? 24,
  };
}

function sound(n: number | undefined): number | null {
  return n !== undefined && Number.isInteger(n) && n > 0 && n <= 2000 ? n : null;
}
