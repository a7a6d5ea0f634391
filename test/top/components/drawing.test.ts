import { expect, test } from "bun:test";
import fc from "fast-check";
import { bar } from "../../../src/top/text/bars.ts";
import { cutMiddle, fitColumns, fitText } from "../../../src/top/text/columns.ts";
import { capacity, graph, type GraphStyle } from "../../../src/top/text/graph.ts";

test.each<[number | null, string, string]>([
  [null, "······", "......"],
  [0, "······", "......"],
  [0.03, "▏·····", "......"],
  [0.5, "███···", "###..."],
  [0.91, "█████▌", "#####."],
  [1, "██████", "######"],
  [7, "██████", "######"],
])("a bar of %p", (share, utf8, ascii) => {
  expect([bar(share, 6, "utf8"), bar(share, 6, "ascii")]).toEqual([utf8, ascii]);
});

test("a graph grows from the right and from below", () => {
  expect(graph([1, 2, 3, 4], { width: 2, height: 1, style: "braille" })).toEqual(["⣠⣾"]);
  expect(graph([4], { width: 3, height: 2, style: "block", max: 8 })).toEqual(["   ", "  █"]);
  expect(graph([0, 1, null, 8], { width: 4, height: 1, style: "ascii" })).toEqual([" . #"]);
  expect(graph([], { width: 2, height: 1, style: "block" })).toEqual(["  "]);
  expect(graph([1], { width: 0, height: 1, style: "block" })).toEqual([]);
});

test("a graph has its size whatever it shows", () => {
  const style = fc.constantFrom<GraphStyle>("braille", "block", "ascii");
  const values = fc.array(fc.option(fc.double()), { maxLength: 200 });
  fc.assert(
    fc.property(values, style, fc.nat(40), fc.nat(6), (series, how, width, height) => {
      const lines = graph(series, { width, height, style: how });
      expect(lines.length).toBe(width === 0 ? 0 : height);
      for (const line of lines) expect(Bun.stringWidth(line)).toBe(width);
      expect(capacity(width, how)).toBeGreaterThanOrEqual(width);
    }),
  );
});

const column = fc
  .record({
    min: fc.integer({ min: 1, max: 8 }),
    more: fc.nat(12),
    grow: fc.nat(3),
    priority: fc.nat(5),
  })
  .map(({ min, more, grow, priority }) => ({ min, ideal: min + more, grow, priority }));

test("columns fit, the dearest stay, and more room never hides one", () => {
  fc.assert(
    fc.property(
      fc.array(column, { maxLength: 12 }),
      fc.integer({ min: 1, max: 200 }),
      (all, width) => {
        const widths = fitColumns(all, width);
        const shown = widths.filter((w) => w !== null);
        const used = shown.reduce((sum, w) => sum + w, 0) + Math.max(0, shown.length - 1);
        if (all.every(({ priority }) => priority > 0)) expect(used).toBeLessThanOrEqual(width);
        all.forEach(({ min, priority }, i) => {
          const w = widths[i] ?? null;
          if (w !== null) expect(w).toBeGreaterThanOrEqual(min);
          if (w === null) {
            expect(priority).toBeGreaterThan(0);
            const dearer = all.filter(
              (other, j) => other.priority > priority && widths[j] !== null,
            );
            expect(dearer).toEqual([]);
          }
        });
        const wider = fitColumns(all, width + 1);
        widths.forEach((w, i) => {
          if (w !== null) expect(wider[i]).not.toBeNull();
        });
      },
    ),
  );
});

test("text fits its cells, wide characters too", () => {
  expect(fitText("gpu", 5)).toBe("gpu  ");
  expect(fitText("41", 5, "right")).toBe("   41");
  expect(fitText("工作站工作站", 5)).toBe("工作…");
  expect(cutMiddle("meta-llama/Llama-3.3-70B-Instruct", 20)).toBe("meta-llama…-Instruct");
  expect(cutMiddle("short", 20)).toBe("short");
  fc.assert(
    fc.property(fc.string({ unit: "grapheme" }), fc.nat(30), (text, width) => {
      expect(Bun.stringWidth(cutMiddle(text, width))).toBeLessThanOrEqual(Math.max(width, 0));
    }),
  );
});
