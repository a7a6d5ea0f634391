/** Reads a pseudo-terminal on which `llmnode top` runs; stopped, it is a terminal that takes nothing. */

// bun scripts/bench/top/reader.ts <columns> <rows> <argv...>: it prints the time, by the clock on the
// wall in milliseconds, of every screen that it has read.

import { Terminal } from "../../../test/top/terminal.ts";

const [columns = "160", rows = "45", ...argv] = process.argv.slice(2);
const screen = new Terminal(Number(columns), Number(rows), { isPty: true });
const decoder = new TextDecoder();
let last = "";
const child = Bun.spawn(argv, {
  env: {
    PATH: process.env["PATH"] ?? "",
    HOME: "/nonexistent",
    TERM: "xterm-256color",
    LANG: "C.UTF-8",
  },
  terminal: {
    cols: Number(columns),
    rows: Number(rows),
    data(_, data) {
      screen.write(decoder.decode(data, { stream: true }));
      // The clock of the head, as the last screen has it.
      const clock = /(\d\d:\d\d:\d\d) *$/.exec(screen.text()[0] ?? "")?.[1] ?? "";
      if (clock === last) return;
      last = clock;
      process.stdout.write(`screen ${clock} ${screen.clears}\n`);
    },
  },
});
process.on("SIGTERM", () => {
  child.kill("SIGKILL");
  process.exit(0);
});
process.stdout.write(`top is ${child.pid}\n`);
await child.exited;
