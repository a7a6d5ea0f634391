/** A terminal that is none of ours: tmux, on a server of its own for each test. */

import { existsSync } from "node:fs";
import { join } from "node:path";
import { runProcess, spawnProcess } from "./process.ts";
import { tempDir } from "./temp.ts";
import { waitFor } from "./wait.ts";

export interface Tmux extends AsyncDisposable {
  /** Keys by tmux's names, or as they are with `-l` in front. */
  keys(...keys: string[]): Promise<void>;
  /** What is on the screen. */
  screen(): Promise<string>;
  /** The same with the sequences of its colours. */
  painted(): Promise<string>;
  /** Waits for a text on it. */
  shows(text: string | RegExp): Promise<string>;
  resize(columns: number, rows: number): Promise<void>;
  /** A format of tmux, such as `#{alternate_on}`. */
  tell(format: string): Promise<string>;
}

export function hasTmux(): boolean {
  return Bun.which("tmux") !== null;
}

/** A shell with these variables, in which `command` is typed. */
export async function startTmux(
  command: string,
  options: { columns?: number; rows?: number; env?: Record<string, string> } = {},
): Promise<Tmux> {
  const { columns = 80, rows = 24, env = {} } = options;
  const directory = tempDir();
  const socket = join(directory.path, "socket");
  const words = ["tmux", "-u", "-f", "/dev/null", "-S", socket];
  const all = { TMUX: undefined, TERM: "xterm-256color", LANG: "C.UTF-8", ...env };
  const server = spawnProcess([...words, "-D"], { env: all });
  const run = async (...more: string[]) => {
    const done = await runProcess([...words, ...more], { env: all });
    if (done.code !== 0) throw new Error(`tmux ${more[0]}: ${done.stderr}`);
    return done.stdout;
  };
  await waitFor(() => existsSync(socket), { what: "tmux" });
  const size = ["-x", String(columns), "-y", String(rows)];
  const variables = Object.entries(env).flatMap(([key, value]) => ["-e", `${key}=${value}`]);
  await run("new-session", "-d", ...size, ...variables, "sh");
  const screen = () => run("capture-pane", "-p");
  const tmux: Tmux = {
    async keys(...keys) {
      await run("send-keys", ...keys);
    },
    screen,
    painted: () => run("capture-pane", "-pe"),
    async shows(text) {
      let last = "";
      const has = async () => {
        last = await screen();
        return (typeof text === "string" ? last.includes(text) : text.test(last)) && last;
      };
      try {
        return await waitFor(has, { what: String(text), timeoutMs: 20_000 });
      } catch (error) {
        throw new Error(`${String(error)}; on the screen:\n${last}`, { cause: error });
      }
    },
    async resize(toColumns, toRows) {
      await run("resize-window", "-x", String(toColumns), "-y", String(toRows));
    },
    tell: async (format) => (await run("display-message", "-p", format)).trim(),
    async [Symbol.asyncDispose]() {
      await server[Symbol.asyncDispose]();
      directory[Symbol.dispose]();
    },
  };
  await tmux.keys("-l", `${command}\n`);
  return tmux;
}
