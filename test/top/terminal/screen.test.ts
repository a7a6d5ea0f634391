import { expect, test } from "bun:test";
import fc from "fast-check";
import { drawChanges, type Screen } from "../../../src/top/terminal/screen.ts";
import { screenOf, Terminal } from "../terminal.ts";

const SIZE = { columns: 12, rows: 3 };

function drawn(frames: readonly string[], size = SIZE): { terminal: Terminal; bytes: string[] } {
  const terminal = new Terminal(size.columns, size.rows);
  let before: Screen | null = null;
  const bytes = frames.map((frame) => {
    const screen = screenOf(frame, size);
    const out = drawChanges(before, screen);
    before = screen;
    terminal.write(out);
    return out;
  });
  return { terminal, bytes };
}

test("only what changed is written", () => {
  const { terminal, bytes } = drawn(["gpu-01 ready\nx", "gpu-01 lost \nx", "gpu-01 lost \nx"]);
  expect(terminal.text()).toEqual(["gpu-01 lost ", "x           ", "            "]);
  expect(bytes[1]).toBe("\u001b[?2026h\u001b[1;8Hlost \u001b[?2026l");
  expect(bytes[2]).toBe("");
  expect(terminal.clears).toBe(1);
});

test("colours go with their cells", () => {
  const { terminal, bytes } = drawn([
    "a \u001b[1m\u001b[31mred\u001b[39m\u001b[22m b",
    "a \u001b[31mred\u001b[39m b",
  ]);
  expect(terminal.text()[0]).toBe("a red b     ");
  const styles = terminal.cells[0]?.map(({ style }) => style);
  expect(styles).toEqual(["", "", "31", "31", "31", ...Array.from({ length: 7 }, () => "")]);
  expect(bytes[1]).toBe("\u001b[?2026h\u001b[1;3H\u001b[0;31mred\u001b[0m\u001b[?2026l");
});

test("another size draws all", () => {
  const first = screenOf("abc", SIZE);
  const second = screenOf("abc", { columns: 13, rows: 3 });
  expect(drawChanges(first, second)).toContain("\u001b[2J");
});

test("escapes that are no colours do nothing, and nothing leaves the screen", () => {
  const { terminal } = drawn([
    "a\u001b[2Jb\u001b]0;evil\u0007c\u0085d\re\u001b[?25lf and much more than fits\n1\n2\n3\n4",
  ]);
  expect(terminal.text()).toEqual(["ab0;evilcdef", "1           ", "2           "]);
  expect(terminal.cursorShown).toBe(true);
});

const word = fc.constantFrom(
  "a",
  "bc",
  " ",
  "工",
  "é",
  "e\u0301",
  "█",
  "▌",
  "·",
  "\u001b[31m",
  "\u001b[0m",
  "\u001b[1;7m",
  "\u001b[38;5;200m",
  "\u001b[39m",
);
const frame = fc
  .array(fc.array(word, { maxLength: 14 }), { maxLength: 4 })
  .map((lines) => lines.map((line) => line.join("")).join("\n"));

test("whatever came before, the screen is the last frame", () => {
  fc.assert(
    fc.property(fc.array(frame, { minLength: 1, maxLength: 6 }), (frames) => {
      const { terminal, bytes } = drawn(frames);
      expect(terminal.cells).toEqual(
        screenOf(frames.at(-1) ?? "", SIZE).lines.map((line) => [...line]),
      );
      expect(terminal.clears).toBe(1);
      for (const out of bytes.slice(1)) expect(out).not.toContain("\u001b[2J");
    }),
    { numRuns: 500 },
  );
});
