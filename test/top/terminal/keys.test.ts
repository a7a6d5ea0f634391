import { expect, test } from "bun:test";
import fc from "fast-check";
import { createKeyReader, type Key, MAX_PASTE } from "../../../src/top/terminal/keys.ts";

const encode = (text: string) => new TextEncoder().encode(text);

function words(keys: readonly Key[]): string[] {
  return keys.map((key) => {
    if (key.key === "text") return key.text;
    if (key.key === "paste") return `<${key.text}>`;
    return key.key === "ctrl" ? `^${key.letter}` : key.key;
  });
}

function typed(...reads: string[]): string[] {
  const reader = createKeyReader();
  const keys = reads.flatMap((read) => reader.read(encode(read)));
  return words([...keys, ...reader.flush()]);
}

test.each<[string, string[], string[]]>([
  ["held down", ["jjj"], ["j", "j", "j"]],
  ["two arrows in one read", ["\u001b[B\u001b[B"], ["down", "down"]],
  ["an arrow in three reads", ["\u001b", "[", "A"], ["up"]],
  ["application mode", ["\u001bOA\u001bOH"], ["up", "home"]],
  ["with modifiers", ["\u001b[1;5C"], ["right"]],
  [
    "pages",
    ["\u001b[5~\u001b[6~\u001b[3~\u001b[1~\u001b[4~"],
    ["pageup", "pagedown", "delete", "home", "end"],
  ],
  ["shift-tab", ["\t\u001b[Z"], ["tab", "backtab"]],
  ["a lone escape", ["\u001b"], ["escape"]],
  ["escape twice", ["\u001b\u001b"], ["escape", "escape"]],
  ["escape, then a letter of a sequence", ["\u001b["], ["escape", "["]],
  ["alt and a letter is none of ours", ["\u001bxq"], ["q"]],
  ["function keys are none of ours", ["\u001b[15~\u001bOPq"], ["q"]],
  ["ctrl-c and ctrl-r", ["\u0003\u0012"], ["^c", "^r"]],
  ["enter, backspace", ["\r\n\u007f\b"], ["enter", "enter", "backspace", "backspace"]],
  ["letters of any kind", ["é工"], ["é", "工"]],
  ["a letter in two reads", ["\u001b[200~a", "b\u001b[20", "1~c"], ["<ab>", "c"]],
  ["a paste with lines and escapes", ["\u001b[200~a\nb\u001b[31mc\u001b[201~"], ["<a b [31mc>"]],
  ["a sequence without an end", [`\u001b[${"1;".repeat(40)}`], [..."1;".repeat(25)]],
])("%s", (_, reads, keys) => {
  expect(typed(...reads)).toEqual(keys);
});

test("a letter whose bytes come apart", () => {
  const reader = createKeyReader();
  const bytes = encode("工");
  expect(reader.read(bytes.subarray(0, 2))).toEqual([]);
  expect(words(reader.read(bytes.subarray(2)))).toEqual(["工"]);
});

test("a long paste is cut and does not grow", () => {
  const reader = createKeyReader();
  reader.read(encode("\u001b[200~"));
  for (let i = 0; i < 100; i += 1) reader.read(encode("x".repeat(10_000)));
  const [paste] = words(reader.read(encode("\u001b[201~")));
  expect(paste).toBe(`<${"x".repeat(MAX_PASTE)}>`);
});

test("however bytes are cut, the keys are the same", () => {
  const piece = fc.constantFrom(
    "j",
    "\u001b[A",
    "\u001bOB",
    "\u001b[5~",
    "é",
    "\u0003",
    "\r",
    "\u001b[200~p q\u001b[201~",
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 12 }), fc.array(fc.nat(40)), (pieces, cuts) => {
      const bytes = encode(pieces.join(""));
      const whole = createKeyReader();
      const all = words([...whole.read(bytes), ...whole.flush()]);
      const reader = createKeyReader();
      const places = [
        0,
        ...cuts.filter((cut) => cut < bytes.length).sort((a, b) => a - b),
        bytes.length,
      ];
      const keys = places.slice(1).flatMap((end, i) => reader.read(bytes.subarray(places[i], end)));
      expect(words([...keys, ...reader.flush()])).toEqual(all);
    }),
  );
});
