/** As much of a terminal as `llmnode top` needs: what its bytes leave on the screen. */

import { type Cell, patchScreen, type Screen } from "../../src/top/terminal/screen.ts";

/** A whole screen, from lines with line feeds between them. */
export function screenOf(text: string, size: { columns: number; rows: number }): Screen {
  const lines = text.split("\n").map((line, row) => ({ row, text: line }));
  return patchScreen(null, lines, size);
}

export class Terminal {
  readonly columns: number;
  readonly rows: number;
  cells: Cell[][];
  /** How often the screen was cleared. */
  clears = 0;
  alternate = false;
  cursorShown = true;
  pastesMarked = false;
  wraps = true;
  /** What was put to the clipboard, the latest last. */
  readonly copied: string[] = [];
  /** What a pty got outside of the alternate screen. */
  outside = "";
  #rest = "";
  #row = 0;
  #column = 0;
  #style = "";

  readonly #isPty: boolean;

  /** Of a pty, what comes outside of the alternate screen is text of lines. */
  constructor(columns: number, rows: number, { isPty = false } = {}) {
    this.#isPty = isPty;
    this.columns = columns;
    this.rows = rows;
    this.cells = Array.from({ length: rows }, () => this.#blank());
  }

  #blank(): Cell[] {
    return Array.from({ length: this.columns }, () => ({ text: " ", style: "" }));
  }

  /**
   * Sequences may come in pieces. Throws at one that `llmnode top` has no business to send.
   */
  write(text: string): void {
    const all = this.#rest + text;
    // oxlint-disable-next-line no-control-regex
    this.#rest = /\u001b(?:\[[?\d;]*|\][^\u0007]*)?$/.exec(all)?.[0] ?? "";
    const bytes = all.slice(0, all.length - this.#rest.length);
    // oxlint-disable-next-line no-control-regex
    const pieces = /\u001b\[([?\d;]*)([A-Za-z])|\u001b\]52;c;([^\u0007]*)\u0007|([^\u001b])/gsu;
    let at = 0;
    for (const piece of bytes.matchAll(pieces)) {
      if (piece.index !== at)
        throw new Error(`unknown bytes: ${JSON.stringify(bytes.slice(at, at + 20))}`);
      at += piece[0].length;
      const [, parameters = "", command, clipboard, char] = piece;
      if (clipboard !== undefined) this.copied.push(Buffer.from(clipboard, "base64").toString());
      else if (char !== undefined && this.#isPty && !this.alternate) this.outside += char;
      else if (char !== undefined) this.#put(char);
      else this.#obey(command ?? "", parameters);
    }
    if (at !== bytes.length)
      throw new Error(`unknown bytes: ${JSON.stringify(bytes.slice(at, at + 20))}`);
  }

  #obey(command: string, parameters: string): void {
    const [first = 1, second = 1] = parameters.split(";").map(Number);
    if (command === "H") {
      this.#row = first - 1;
      this.#column = second - 1;
    } else if (command === "m") {
      this.#style = parameters.replace(/^0;?/, "");
    } else if (command === "J" && parameters === "2") {
      this.clears += 1;
      this.cells = this.cells.map(() => this.#blank());
    } else if (parameters === "?1049") this.alternate = command === "h";
    else if (parameters === "?25") this.cursorShown = command === "h";
    else if (parameters === "?7") this.wraps = command === "h";
    else if (parameters === "?2004") this.pastesMarked = command === "h";
    else if (parameters !== "?2026") throw new Error(`unknown sequence: ${parameters}${command}`);
  }

  #put(char: string): void {
    const line = this.cells[this.#row];
    if (!line) throw new Error(`row ${this.#row} is outside`);
    const width = Bun.stringWidth(char);
    if (width === 0) {
      const before = line.slice(0, this.#column).findLast(({ text }) => text !== "");
      if (before) before.text += char;
      return;
    }
    if (this.#column + width > this.columns) {
      // Without wrapping a terminal clips: a frame may be on its way when it becomes smaller.
      if (!this.wraps) return;
      throw new Error("it wraps");
    }
    // Writing over one half of a wide character destroys the other half.
    const lead = line[this.#column];
    if (lead?.text === "") line[this.#column - 1] = { text: " ", style: "" };
    const next = line[this.#column + width];
    if (next?.text === "") line[this.#column + width] = { text: " ", style: "" };
    line[this.#column] = { text: char, style: this.#style };
    for (let i = 1; i < width; i += 1) line[this.#column + i] = { text: "", style: this.#style };
    this.#column += width;
  }

  /** The screen as text. */
  text(): string[] {
    return this.cells.map((line) => line.map(({ text }) => text).join(""));
  }
}
