/** A program on a pseudo-terminal: keys go in, and what its bytes leave on the screen is read. */

import { waitFor } from "../helpers/wait.ts";
import { Terminal } from "./terminal.ts";

export interface PtyProgram extends AsyncDisposable {
  readonly pid: number;
  readonly exited: Promise<number>;
  /** The screen now; another one after each resize. */
  readonly terminal: Terminal;
  readonly text: () => string;
  type(keys: string): void;
  /** Waits for a text on the screen. */
  shows(text: string | RegExp, options?: { timeoutMs?: number }): Promise<string>;
  resize(columns: number, rows: number): void;
  kill(signal: NodeJS.Signals): void;
  /** The flags that a raw terminal has not. */
  readonly localFlags: number;
  hangUp(): void;
}

const MAIN = new URL("../../src/main.ts", import.meta.url).pathname;

export interface PtyOptions {
  columns?: number;
  rows?: number;
  /** Added to a bare environment. */
  env?: Record<string, string>;
  /** Loaded before the program. */
  preload?: string;
}

/** `llmnode` with these words. */
export function startOnPty(words: readonly string[], options: PtyOptions = {}): PtyProgram {
  const { columns = 80, rows = 24, env = {}, preload } = options;
  const decoder = new TextDecoder();
  let terminal = new Terminal(columns, rows, { isPty: true });
  let problem: unknown = null;
  const child = Bun.spawn(
    [process.execPath, ...(preload === undefined ? [] : ["--preload", preload]), MAIN, ...words],
    {
      env: {
        PATH: process.env["PATH"] ?? "",
        HOME: "/nonexistent",
        TERM: "xterm-256color",
        LANG: "C.UTF-8",
        TZ: "UTC",
        ...env,
      },
      terminal: {
        cols: columns,
        rows,
        data(_, bytes) {
          try {
            terminal.write(decoder.decode(bytes, { stream: true }));
          } catch (error) {
            problem ??= error;
          }
        },
      },
    },
  );
  const pty = child.terminal;
  if (!pty) throw new Error("there are no pseudo-terminals here");
  const text = () => {
    if (problem !== null) throw problem;
    return terminal.text().join("\n");
  };
  return {
    pid: child.pid,
    exited: child.exited,
    get terminal() {
      return terminal;
    },
    text,
    type: (keys) => void pty.write(keys),
    async shows(wanted, options = {}) {
      const has = () => {
        const now = text();
        return (typeof wanted === "string" ? now.includes(wanted) : wanted.test(now)) && now;
      };
      try {
        return await waitFor(has, { what: String(wanted), ...options });
      } catch (error) {
        throw new Error(`${String(error)}; on the screen:\n${text()}\n${terminal.outside}`, {
          cause: error,
        });
      }
    },
    resize(toColumns, toRows) {
      const { alternate, cursorShown } = terminal;
      terminal = new Terminal(toColumns, toRows, { isPty: true });
      Object.assign(terminal, { alternate, cursorShown });
      pty.resize(toColumns, toRows);
    },
    kill: (signal) => child.kill(signal),
    get localFlags() {
      return pty.localFlags;
    },
    hangUp: () => pty.close(),
    async [Symbol.asyncDispose]() {
      child.kill("SIGKILL");
      await child.exited;
      if (!pty.closed) pty.close();
    },
  };
}
