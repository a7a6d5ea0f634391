/** Ink's part: lines that are made already, one `Text` each; only those that have changed. */

import { EventEmitter } from "node:events";
import { PassThrough } from "node:stream";
import { Box, render, Text } from "ink";

export interface Canvas extends Disposable {
  /** Renders the lines; what has changed comes back through `onChanges`, maybe later. */
  draw(lines: readonly string[]): void;
  /** Forgets what was drawn. */
  resize(size: { columns: number; rows: number }): void;
}

export interface ChangedLine {
  row: number;
  text: string;
}

/** Lines on their way through Ink, with the number by which they are known when they come out. */
interface Batch {
  id: number;
  changes: readonly ChangedLine[];
}

function Lines({ batch }: { batch: Batch }) {
  return (
    <Box flexDirection="column">
      <Text>{batch.id}</Text>
      {batch.changes.map(({ row, text }) => (
        <Text key={row} wrap="truncate">
          {text === "" ? " " : text}
        </Text>
      ))}
    </Box>
  );
}

/**
 * A terminal that Ink writes whole frames to (`debug`), so that we decide what becomes of them: Ink's
 * own output waits for a terminal that takes nothing, and writes more than has changed.
 */
class FrameCatcher extends EventEmitter {
  columns: number;
  rows: number;
  readonly isTTY = true;
  readonly #onFrame: (frame: string) => void;

  constructor(size: { columns: number; rows: number }, onFrame: (frame: string) => void) {
    super();
    this.columns = size.columns;
    // One more, for the number of the batch.
    this.rows = size.rows + 1;
    this.#onFrame = onFrame;
  }

  write(text: string): boolean {
    // Cursor sequences that Ink sends beside its frames.
    // oxlint-disable-next-line no-control-regex
    if (!/^(?:\u001b\[[?\d;]*[A-Za-ln-z])*$/.test(text)) this.#onFrame(text);
    return true;
  }
}

export function openCanvas(
  size: { columns: number; rows: number },
  onChanges: (changes: readonly ChangedLine[]) => void,
): Canvas {
  /** Of the last batch that has come out. */
  let drawn: readonly string[] = [];
  /** Those on their way, the latest last. */
  const batches: (Batch & { lines: readonly string[] })[] = [];
  let last = 0;

  const onFrame = (frame: string) => {
    const [id = "", ...texts] = frame.split("\n");
    const at = batches.findIndex((batch) => batch.id === Number(id));
    const batch = batches[at];
    if (!batch) return;
    // Batches before it were overtaken: theirs is in this one, too.
    batches.splice(0, at + 1);
    drawn = batch.lines;
    onChanges(batch.changes.map(({ row }, i) => ({ row, text: texts[i] ?? "" })));
  };
  const catcher = new FrameCatcher(size, onFrame);
  // Ink never sees a key: bytes are read where none can be lost.
  const input = Object.assign(new PassThrough(), { isTTY: false });
  const instance = render(<Lines batch={{ id: 0, changes: [] }} />, {
    stdout: catcher as unknown as NodeJS.WriteStream,
    stdin: input as unknown as NodeJS.ReadStream,
    debug: true,
    exitOnCtrlC: false,
    patchConsole: false,
    interactive: true,
  });
  return {
    draw(lines) {
      const changes = lines.flatMap((text, row) => (text === drawn[row] ? [] : [{ row, text }]));
      if (changes.length === 0 && batches.length === 0) return;
      last += 1;
      const batch = { id: last, changes, lines };
      batches.push(batch);
      instance.rerender(<Lines batch={batch} />);
    },
    resize({ columns, rows }) {
      drawn = [];
      batches.length = 0;
      catcher.columns = columns;
      catcher.rows = rows + 1;
      catcher.emit("resize");
    },
    [Symbol.dispose]() {
      batches.length = 0;
      instance.unmount();
      input.destroy();
    },
  };
}
