import { expect, test } from "bun:test";
import { createFrameSink } from "../../../src/top/terminal/frame-sink.ts";
import { terminalSize } from "../../../src/top/terminal/tty.ts";
import { screenOf, Terminal } from "../terminal.ts";

const SIZE = { columns: 10, rows: 2 };
const frame = (text: string) => screenOf(text, SIZE);

/** A terminal that takes bytes when it is told to. */
function slowTerminal() {
  const terminal = new Terminal(SIZE.columns, SIZE.rows);
  const waiting: { bytes: string; taken: () => void; gone: (error: Error) => void }[] = [];
  return {
    terminal,
    waiting,
    write: (bytes: string) =>
      new Promise<void>((taken, gone) => void waiting.push({ bytes, taken, gone })),
    async take() {
      const next = waiting.shift();
      if (!next) throw new Error("nothing was written");
      terminal.write(next.bytes);
      next.taken();
      await Bun.sleep(0);
    },
  };
}

test("a terminal that takes nothing gets the newest frame later, and not one more", async () => {
  const slow = slowTerminal();
  const sink = createFrameSink(slow.write, () => {});
  for (const text of ["one", "two", "three", "four"]) sink.show(frame(text));
  expect([slow.waiting.length, sink.dropped, sink.droppedInARow]).toEqual([1, 2, 2]);
  await slow.take();
  expect(slow.terminal.text()[0]).toBe("one       ");
  await slow.take();
  expect(slow.terminal.text()[0]).toBe("four      ");
  await sink.settled();
  expect([slow.waiting.length, sink.dropped, sink.droppedInARow]).toEqual([0, 2, 0]);
});

test("what is the same is not written, and all is written anew when asked for", async () => {
  const slow = slowTerminal();
  const sink = createFrameSink(slow.write, () => {});
  sink.show(frame("same"));
  await slow.take();
  sink.show(frame("same"));
  await sink.settled();
  expect(slow.waiting).toEqual([]);
  sink.redraw();
  sink.show(frame("same"));
  await slow.take();
  expect(slow.terminal.clears).toBe(2);
});

test("a terminal that is gone is told of once", async () => {
  const slow = slowTerminal();
  const errors: unknown[] = [];
  const sink = createFrameSink(slow.write, (error) => void errors.push(error));
  sink.show(frame("one"));
  sink.show(frame("two"));
  slow.waiting[0]?.gone(new Error("EIO"));
  await sink.settled();
  sink.show(frame("three"));
  await sink.settled();
  expect([errors.length, slow.waiting.length]).toEqual([1, 1]);
});

test("the size of a terminal that does not know it", () => {
  expect(terminalSize({ columns: 160, rows: 45 }, {})).toEqual({ columns: 160, rows: 45 });
  expect(terminalSize({ columns: 0, rows: 0 }, {})).toEqual({ columns: 80, rows: 24 });
  const env = { COLUMNS: "100", LINES: "30" };
  expect(terminalSize({ columns: 0, rows: undefined }, env)).toEqual({ columns: 100, rows: 30 });
  expect(terminalSize({}, { COLUMNS: "-4", LINES: "x" })).toEqual({ columns: 80, rows: 24 });
});
