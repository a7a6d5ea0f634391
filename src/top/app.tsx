/** Ink's part: lines that are made already, one `Text` each, handed over as one frame. */

import { EventEmitter } from "node:events";
import { PassThrough } from "node:stream";
import { Box, render, Text } from "ink";

export interface Canvas extends Disposable {
  /** Renders the lines; the frame comes back through `onFrame`, maybe later. */
  draw(lines: readonly string[]): void;
  resize(size: { columns: number; rows: number }): void;
}

function Lines({ lines }: { lines: readonly string[] }) {
  return (
    <Box flexDirection="column">
      {lines.map((line, row) => (
        <Text key={row} wrap="truncate">
          {line === "" ? " " : line}
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
    this.rows = size.rows;
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
  onFrame: (frame: string) => void,
): Canvas {
  const catcher = new FrameCatcher(size, onFrame);
  // Ink never sees a key: bytes are read where none can be lost.
  const input = Object.assign(new PassThrough(), { isTTY: false });
  const instance = render(<Lines lines={[]} />, {
    stdout: catcher as unknown as NodeJS.WriteStream,
    stdin: input as unknown as NodeJS.ReadStream,
    debug: true,
    exitOnCtrlC: false,
    patchConsole: false,
    interactive: true,
  });
  return {
    draw: (lines) => instance.rerender(<Lines lines={lines} />),
    resize({ columns, rows }) {
      catcher.columns = columns;
      catcher.rows = rows;
      catcher.emit("resize");
    },
    [Symbol.dispose]() {
      instance.unmount();
      input.destroy();
    },
  };
}
