/** Cuts a stream of bytes into lines of bounded length. */

export interface LineSplitter {
  /** Takes the next bytes and returns the lines that they complete, without empty ones. */
  push(bytes: Uint8Array): string[];
  /** The unfinished line, if any; the splitter is then empty. */
  flush(): string[];
  /** Forgets the unfinished line and drops everything up to the next line's start. */
  skipToNextLine(): void;
}

const NEWLINE = 0x0a;
const RETURN = 0x0d;

/** Progress bars redraw themselves with `\r`: it ends a line like `\n` does. */
export function splitLines(maxBytes: number): LineSplitter {
  const decoder = new TextDecoder();
  let pending: Uint8Array[] = [];
  let pendingBytes = 0;
  let skipping = false;

  const keep = (bytes: Uint8Array) => {
    const room = maxBytes - pendingBytes;
    if (skipping || room <= 0 || bytes.length === 0) return;
    // A copy: the caller may use its buffer again.
    pending.push(bytes.slice(0, room));
    pendingBytes += Math.min(room, bytes.length);
  };
  const take = (): string[] => {
    const line = pendingBytes > 0 && !skipping ? [decoder.decode(Buffer.concat(pending))] : [];
    pending = [];
    pendingBytes = 0;
    skipping = false;
    return line;
  };

  return {
    push(bytes) {
      const lines: string[] = [];
      let start = 0;
      for (let i = 0; i < bytes.length; i += 1) {
        if (bytes[i] !== NEWLINE && bytes[i] !== RETURN) continue;
        keep(bytes.subarray(start, i));
        lines.push(...take());
        start = i + 1;
      }
      keep(bytes.subarray(start));
      return lines;
    },
    flush: take,
    skipToNextLine() {
      take();
      skipping = true;
    },
  };
}
