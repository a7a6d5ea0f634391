/** Cuts a stream of bytes into lines of bounded length. */

export interface LineSplitter {
  /** Takes the next bytes and returns the lines that they complete. */
  push(bytes: Uint8Array): string[];
  /** The unfinished line, if any; the splitter is then empty. */
  flush(): string[];
  /** Forgets the unfinished line and drops everything up to the next line's start. */
  skipToNextLine(): void;
}

export interface LineFolder extends LineSplitter {
  /** What a terminal would show of the unfinished line by now; empty: nothing. */
  live(): string;
}

const NEWLINE = 0x0a;
const RETURN = 0x0d;
/** Stands where the rest of a line was dropped. */
const CUT = "…";

/** Progress bars redraw themselves with `\r`: it ends a line like `\n` does. Without empty lines. */
export function splitLines(maxBytes: number): LineSplitter {
  const piece = createPiece(maxBytes);
  const take = () => [piece.take()].filter((line) => line !== "");
  return {
    push(bytes) {
      const lines: string[] = [];
      eachPiece(bytes, (part, end) => {
        piece.add(part);
        if (end !== null) lines.push(...take());
      });
      return lines;
    },
    flush: take,
    skipToNextLine: piece.skip,
  };
}

/** Lines as a terminal leaves them after `\r`. Empty lines stay. */
export function foldLines(maxBytes: number): LineFolder {
  const piece = createPiece(maxBytes);
  let shown = "";
  let isSkipping = false;
  const finish = (): string => {
    const line = piece.take() || shown;
    shown = "";
    return line;
  };
  return {
    push(bytes) {
      const lines: string[] = [];
      eachPiece(bytes, (part, end) => {
        piece.add(part);
        if (end === RETURN) shown = piece.take() || shown;
        if (end !== NEWLINE) return;
        const line = finish();
        if (!isSkipping) lines.push(line);
        isSkipping = false;
      });
      return lines;
    },
    flush() {
      const line = finish();
      const isWhole = !isSkipping;
      isSkipping = false;
      return isWhole && line !== "" ? [line] : [];
    },
    live: () => (isSkipping ? "" : piece.peek() || shown),
    skipToNextLine() {
      finish();
      isSkipping = true;
    },
  };
}

/** Calls for each part of `bytes` with the byte that ends it; the last one has none. */
function eachPiece(bytes: Uint8Array, take: (part: Uint8Array, end: number | null) => void): void {
  let start = 0;
  for (let i = 0; i < bytes.length; i += 1) {
    const byte = bytes[i];
    if (byte !== NEWLINE && byte !== RETURN) continue;
    take(bytes.subarray(start, i), byte);
    start = i + 1;
  }
  if (start < bytes.length) take(bytes.subarray(start), null);
}

/** A text that grows up to a limit; more is dropped, and marked. */
function createPiece(maxBytes: number) {
  const decoder = new TextDecoder();
  let parts: Uint8Array[] = [];
  let bytes = 0;
  let isCut = false;
  let isSkipping = false;
  const peek = (): string => {
    if (bytes === 0 || isSkipping) return "";
    const text = decoder.decode(Buffer.concat(parts));
    // The cut may have gone through a character.
    return isCut ? text.replace(/\ufffd{1,3}$/, "") + CUT : text;
  };
  const reset = (skips: boolean) => {
    parts = [];
    bytes = 0;
    isCut = false;
    isSkipping = skips;
  };
  return {
    add(part: Uint8Array) {
      const room = maxBytes - bytes;
      if (isSkipping || part.length === 0) return;
      isCut ||= part.length > room;
      if (room <= 0) return;
      // A copy: the caller may use its buffer again.
      parts.push(part.slice(0, room));
      bytes += Math.min(room, part.length);
    },
    peek,
    take(): string {
      const text = peek();
      reset(false);
      return text;
    },
    skip: () => reset(true),
  };
}

/** Line ends in these bytes. */
export function countLines(bytes: Uint8Array): number {
  let count = 0;
  for (let i = bytes.indexOf(NEWLINE); i !== -1; i = bytes.indexOf(NEWLINE, i + 1)) count += 1;
  return count;
}
