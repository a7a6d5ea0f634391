/** Bytes from a keyboard as keys; several may come in one read, and one in several reads. */

export type Key =
  | { key: "text"; text: string }
  | { key: "paste"; text: string }
  | { key: "ctrl"; letter: string }
  | { key: NamedKey };

export type NamedKey =
  | "enter"
  | "escape"
  | "tab"
  | "backtab"
  | "backspace"
  | "delete"
  | "up"
  | "down"
  | "left"
  | "right"
  | "home"
  | "end"
  | "pageup"
  | "pagedown";

export interface KeyReader {
  /** The keys in these bytes; what may be the beginning of a longer one waits for more. */
  read(bytes: Uint8Array): Key[];
  /** What waits is all there is: a lone Escape. To be called some 30 ms after the last bytes. */
  flush(): Key[];
  /** Whether something waits. */
  readonly isWaiting: boolean;
}

/** Longer pastes are cut: no filter is that long. */
export const MAX_PASTE = 512;
/** Of an escape sequence; anything longer is none. */
const MAX_SEQUENCE = 32;

const FINAL: Readonly<Record<string, NamedKey>> = {
  A: "up",
  B: "down",
  C: "right",
  D: "left",
  F: "end",
  H: "home",
  Z: "backtab",
};
const TILDE: Readonly<Record<string, NamedKey>> = {
  "1": "home",
  "3": "delete",
  "4": "end",
  "5": "pageup",
  "6": "pagedown",
  "7": "home",
  "8": "end",
};

const PASTE_BEGINS = "\u001b[200~";
const PASTE_ENDS = "\u001b[201~";

export function createKeyReader(): KeyReader {
  const decoder = new TextDecoder();
  let rest = "";
  let paste: string | null = null;

  const readPaste = (keys: Key[]): boolean => {
    const end = rest.indexOf(PASTE_ENDS);
    const taken = end < 0 ? rest : rest.slice(0, end);
    // What may be the beginning of the end stays.
    const keep = end < 0 ? Math.min(taken.length, PASTE_ENDS.length - 1) : 0;
    paste = ((paste ?? "") + taken.slice(0, taken.length - keep)).slice(0, MAX_PASTE);
    rest = end < 0 ? taken.slice(taken.length - keep) : rest.slice(end + PASTE_ENDS.length);
    if (end < 0) return false;
    keys.push({ key: "paste", text: printable(paste) });
    paste = null;
    return true;
  };

  const take = (isLast: boolean): Key[] => {
    const keys: Key[] = [];
    while (rest !== "") {
      if (paste !== null) {
        if (!readPaste(keys)) break;
        continue;
      }
      if (rest.startsWith(PASTE_BEGINS)) {
        rest = rest.slice(PASTE_BEGINS.length);
        paste = "";
        continue;
      }
      const found = first(rest, isLast);
      if (found === null) break;
      rest = rest.slice(found.length);
      if (found.key) keys.push(found.key);
    }
    return keys;
  };

  return {
    read(bytes) {
      rest += decoder.decode(bytes, { stream: true });
      return take(false);
    },
    flush: () => take(true),
    get isWaiting() {
      return rest !== "" && paste === null;
    },
  };
}

export interface Keyboard {
  onBytes(listener: (bytes: Uint8Array) => void): void;
  onEnd(listener: () => void): void;
}

/** Escape alone is a key when nothing follows it for `escapeMs`. */
export function readKeyboard(
  keyboard: Keyboard,
  { escapeMs, onKey }: { escapeMs: number; onKey: (key: Key) => void },
): Disposable {
  const reader = createKeyReader();
  let escape: ReturnType<typeof setTimeout> | undefined;
  keyboard.onBytes((bytes) => {
    clearTimeout(escape);
    for (const key of reader.read(bytes)) onKey(key);
    if (reader.isWaiting) escape = setTimeout(() => reader.flush().forEach(onKey), escapeMs);
  });
  return { [Symbol.dispose]: () => clearTimeout(escape) };
}

/** The first key and how much it takes; a null key means nothing to us. Null: more must come. */
function first(text: string, isLast: boolean): { key: Key | null; length: number } | null {
  if (text[0] === "\u001b") return escaped(text, isLast);
  const char = String.fromCodePoint(text.codePointAt(0) ?? 0);
  return { key: plainKey(char), length: char.length };
}

function plainKey(char: string): Key | null {
  const code = char.codePointAt(0) ?? 0;
  if (char === "\r" || char === "\n") return { key: "enter" };
  if (char === "\t") return { key: "tab" };
  if (code === 0x7f || code === 0x08) return { key: "backspace" };
  if (code > 0 && code < 0x1b) return { key: "ctrl", letter: String.fromCharCode(code + 0x60) };
  if (code < 0x20 || (code >= 0x80 && code < 0xa0)) return null;
  return { key: "text", text: char };
}

/** Source: xterm's control sequences, "PC-Style Function Keys" and "VT220-Style Function Keys". */
function escaped(text: string, isLast: boolean): { key: Key | null; length: number } | null {
  const second = text[1];
  if (second === undefined) return isLast ? { key: { key: "escape" }, length: 1 } : null;
  if (second === "\u001b") return { key: { key: "escape" }, length: 1 };
  if (second !== "[" && second !== "O") {
    // Alt with a key: none of ours.
    return { key: null, length: 1 + String.fromCodePoint(text.codePointAt(1) ?? 0).length };
  }
  for (let at = 2; at < text.length && at < MAX_SEQUENCE; at += 1) {
    const char = text[at] ?? "";
    if (char < "@" || char > "~") continue;
    const parameters = text.slice(2, at).split(";");
    const name = char === "~" ? TILDE[parameters[0] ?? ""] : FINAL[char];
    return { key: name ? { key: name } : null, length: at + 1 };
  }
  if (text.length >= MAX_SEQUENCE) return { key: null, length: MAX_SEQUENCE };
  // A lone Escape with `[` or `O` typed behind it.
  return isLast ? { key: { key: "escape" }, length: 1 } : null;
}

/** What may be typed into a line. */
function printable(text: string): string {
  // oxlint-disable-next-line no-control-regex
  return text.replace(/[\u0000-\u001f\u007f-\u009f]+/g, " ").trim();
}
