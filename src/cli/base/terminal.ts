/** Where a command writes: both output streams, and what is known about the terminal. */

import type { Environment } from "./options.ts";

export interface Output {
  /**
   * Takes text at once and writes it in order without ever blocking. While the reader stalls, up
   * to the limit is kept and what comes on top is dropped; the gap is then told in one line.
   */
  write(text: string): void;
  /** Settles when everything taken so far is written, or the reader is gone. */
  flush(): Promise<void>;
  /** Whether it was found closed by its reader: what is written goes nowhere. */
  readonly isGone: boolean;
}

export interface Terminal {
  out: Output;
  err: Output;
  outIsTty: boolean;
  errIsTty: boolean;
  /** Columns of the terminal, null when `out` is none. */
  columns: number | null;
  color: boolean;
}

/** What an output writes to: `Bun.stdout.writer()` is one. */
export interface Sink {
  write(text: string): unknown;
  flush(): number | Promise<number>;
}

/** Lines wait here while a reader stalls: some seconds of a busy log. */
const BACKLOG_LIMIT_CHARS = 1024 * 1024;

export function openTerminal(env: Environment): Terminal {
  const outIsTty = process.stdout.isTTY === true;
  const errIsTty = process.stderr.isTTY === true;
  // A variable set by hand counts where the terminal does not tell its width.
  const columns = process.stdout.columns || Number(env["COLUMNS"]) || 80;
  return {
    // Not process.stdout: its writes block the whole process while a pipe or a stopped terminal
    // takes nothing, and a head must not stand still because someone paged its log.
    out: createOutput(Bun.stdout.writer()),
    err: createOutput(Bun.stderr.writer()),
    outIsTty,
    errIsTty,
    columns: outIsTty ? columns : null,
    // https://no-color.org: any value but the empty one switches colours off.
    color: (env["NO_COLOR"] ?? "") === "" && env["TERM"] !== "dumb",
  };
}

export function createOutput(sink: Sink, limitChars = BACKLOG_LIMIT_CHARS): Output {
  let backlog = "";
  let dropped = 0;
  let gone = false;
  let writing: Promise<void> | null = null;

  // One write is under way at a time, so that the backlog is counted here and nowhere else.
  const pump = (): void => {
    while (!gone && writing === null && backlog !== "") {
      const chunk = backlog;
      backlog = "";
      try {
        const written = sink.write(chunk);
        // A pipe whose reader has left may say so here, and later than at once.
        if (written instanceof Promise) written.catch(() => void (gone = true));
        const flushed = sink.flush();
        if (!(flushed instanceof Promise)) continue;
        writing = flushed
          .then(noteGap, () => {
            gone = true;
          })
          .finally(() => {
            writing = null;
            pump();
          });
      } catch {
        gone = true; // closed by its reader: there is nobody left to tell
      }
    }
  };
  const noteGap = (): void => {
    if (dropped === 0) return;
    backlog += `(${dropped} lines dropped: they came faster than they were read)\n`;
    dropped = 0;
  };

  return {
    write(text) {
      if (gone) return;
      if (backlog.length + text.length > limitChars && writing !== null) {
        dropped += text.split("\n").length - 1;
        return;
      }
      backlog += text;
      pump();
    },
    async flush() {
      while (writing !== null) await writing;
    },
    get isGone() {
      return gone;
    },
  };
}
