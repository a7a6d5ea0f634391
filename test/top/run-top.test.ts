import { describe, expect, test } from "bun:test";
import { getStream, postJson } from "../../src/cli/client/api.ts";
import { paletteOf } from "../../src/top/text/palette.ts";
import { runTop } from "../../src/top/top.ts";
import type { Tty } from "../../src/top/terminal/tty.ts";
import { waitFor } from "../helpers/wait.ts";
import { startFakeHead } from "./fake-head.ts";
import { type PtyOptions, type PtyProgram, startOnPty } from "./pty.ts";
import { cluster, frame, manyWorkers } from "./sample.ts";
import { OPTIONS, UTF8 } from "./show.ts";
import { Terminal } from "./terminal.ts";

function top(url: string, options: PtyOptions & { words?: string[] } = {}): PtyProgram {
  return startOnPty(["top", "--head", url, ...(options.words ?? [])], options);
}

/** The terminal is as it was: its own screen, a cursor, lines and echo. */
async function expectRestored({ terminal }: PtyProgram): Promise<void> {
  await waitFor(() => !terminal.alternate, { what: "the screen from before", timeoutMs: 2000 });
  expect({
    alternate: terminal.alternate,
    cursorShown: terminal.cursorShown,
    wraps: terminal.wraps,
    pastesMarked: terminal.pastesMarked,
  }).toEqual({ alternate: false, cursorShown: true, wraps: true, pastesMarked: false });
}

/** ICANON and ECHO. Source: asm-generic/termbits.h. */
const COOKED = 0o2 | 0o10;

describe("on a terminal", () => {
  test("keys go in, screens come out, q gives the terminal back", async () => {
    await using head = startFakeHead();
    await using program = top(head.url);
    await program.shows(/>gpu-09 +x lost 42s/);
    expect(program.terminal.alternate).toBe(true);
    expect(program.terminal.cursorShown).toBe(false);
    program.type("jj");
    await program.shows(/>gpu-03/);
    program.type("\u001b[B");
    await program.shows(/>gpu-01/);
    program.type("2");
    await program.shows("-- replicas of Qwen/Qwen3-235B-A22B");
    program.type("3");
    await program.shows(">r7f3a91c");
    program.type("y");
    await waitFor(() => program.terminal.copied.length > 0, { what: "the clipboard" });
    expect(program.terminal.copied).toEqual(["r7f3a91c"]);
    program.type("1/state:lost\r");
    await program.shows("/state:lost 1 of 9");
    program.type("q");
    expect(await program.exited).toBe(0);
    await expectRestored(program);
    expect(program.localFlags & COOKED).toBe(COOKED);
    expect(program.terminal.clears).toBe(1);
  });

  test("another size is drawn whole, a useless one as 80 by 24", async () => {
    await using head = startFakeHead();
    await using program = top(head.url, { columns: 0, rows: 0 });
    program.resize(160, 45);
    await program.shows("-- models ---");
    program.resize(60, 12);
    await program.shows(/^llmnode 127.0.0.1:\d+ .*RW/);
    expect(program.terminal.text()).toHaveLength(12);
  });

  test.each<[string, (program: PtyProgram) => void, number]>([
    ["Ctrl-C", (program) => program.type("\u0003"), 0],
    ["SIGINT", (program) => program.kill("SIGINT"), 130],
    ["SIGTERM", (program) => program.kill("SIGTERM"), 143],
    ["SIGHUP", (program) => program.kill("SIGHUP"), 129],
  ])("%s gives the terminal back", async (_, end, code) => {
    await using head = startFakeHead();
    await using program = top(head.url);
    await program.shows("gpu-09");
    end(program);
    expect(await program.exited).toBe(code);
    await expectRestored(program);
    expect(program.localFlags & COOKED).toBe(COOKED);
  });

  test("a bug that nobody catches gives it back, too", async () => {
    await using head = startFakeHead();
    const preload = new URL("./fixtures/bug.ts", import.meta.url).pathname;
    await using program = top(head.url, { preload });
    await program.shows("gpu-09");
    program.kill("SIGUSR2");
    expect(await program.exited).not.toBe(0);
    await waitFor(() => program.terminal.outside.includes("a bug that nobody catches"));
    await expectRestored(program);
    expect(program.localFlags & COOKED).toBe(COOKED);
  });

  test("a frame that we cannot draw is told after the terminal is given back", async () => {
    await using head = startFakeHead();
    await using program = top(head.url);
    await program.shows("gpu-09");
    head.more = { rows: [{ name: "broken" }] };
    expect(await program.exited).toBe(70);
    await expectRestored(program);
    expect(program.terminal.outside).toContain("error:");
  });

  test("a terminal that is gone ends it", async () => {
    await using head = startFakeHead();
    await using program = top(head.url);
    await program.shows("gpu-09");
    program.hangUp();
    expect(await program.exited).toBe(129);
  });
});

describe("the head goes and comes", () => {
  test("the last data stay, dim, and all goes on when it is back", async () => {
    const first = startFakeHead();
    const { port } = new URL(first.url);
    await using program = top(first.url);
    await program.shows("LIVE");
    await first[Symbol.asyncDispose]();
    const text = await program.shows(/!! head unreachable: .*Retry \d/);
    expect(text).toContain("gpu-05");
    expect(text).toMatch(/last data \d\d:\d\d:\d\d/);
    const row = program.terminal.cells.find((line) =>
      line
        .map((cell) => cell.text)
        .join("")
        .includes("gpu-05"),
    );
    expect(row?.[1]?.style).toBe("2");
    program.type("D");
    await program.shows("not while the data are old");
    await using second = startFakeHead(cluster(), Number(port));
    second.id = "head-b";
    program.type("\u0012");
    await program.shows("LIVE");
    await program.shows("reconnected after");
    expect(program.text()).not.toContain("!!");
  });

  test("a key that is refused is no reason to end", async () => {
    await using head = startFakeHead();
    head.status = 403;
    await using program = top(head.url);
    await program.shows("!! the head refuses: no key, no view");
    head.status = null;
    program.type("\u0012");
    await program.shows("LIVE");
  });
});

describe("bad input", () => {
  test("names of a megabyte and escapes in them stay text", async () => {
    const evil = "\u001b]0;evil\u0007\u001b[2J";
    const name = `${evil}${"m".repeat(1_000_000)}`;
    const sample = cluster();
    const workers = sample.workers.map((row) => ({
      ...row,
      models: [{ name, engines: 1 }],
      name: evil + row.name,
    }));
    await using head = startFakeHead({ ...sample, workers });
    await using program = top(head.url);
    await program.shows("gpu-09");
    expect(program.text()).toContain("mmmm…mmmm");
    program.type("q");
    expect(await program.exited).toBe(0);
  });

  test("without UTF-8 all is ASCII", async () => {
    await using head = startFakeHead();
    await using program = top(head.url, { env: { LANG: "C" } });
    await program.shows("gpu-09");
    expect(program.text()).toMatch(/^[ -~\n]*$/);
    expect(program.text()).toContain("###");
  });

  test("NO_COLOR takes the colours and leaves what is reverse", async () => {
    await using head = startFakeHead();
    await using program = top(head.url, { env: { NO_COLOR: "1" } });
    await program.shows("gpu-09");
    const styles = new Set(program.terminal.cells.flat().map(({ style }) => style));
    expect([...styles].some((style) => /3\d/.test(style))).toBe(false);
    expect([...styles].some((style) => style.includes("7"))).toBe(true);
  });

  test.each<[string, PtyOptions & { words?: string[] }]>([
    ["TERM=dumb", { env: { TERM: "dumb" } }],
    ["CI", { env: { CI: "true" } }],
    ["--once", { words: ["--once"] }],
  ])("%s prints one snapshot", async (_, options) => {
    await using head = startFakeHead();
    await using program = top(head.url, options);
    expect(await program.exited).toBe(0);
    await waitFor(() => program.terminal.outside.includes("bge-m3"), { what: "the snapshot" });
    expect(program.terminal.clears).toBe(0);
    expect(program.terminal.outside).toContain("x lost 42s");
  });

  test("a filter that cannot be read is told before anything else", async () => {
    await using program = top("127.0.0.1:1", { words: ["--filter", "colour:red"] });
    expect(await program.exited).toBe(2);
    await waitFor(() => program.terminal.outside.includes("no field colour (column 1)"));
  });
});

/** A terminal that takes bytes only while it is told to. */
function stallingTty(columns: number, rows: number) {
  const terminal = new Terminal(columns, rows);
  let gate = Promise.resolve();
  let open = () => {};
  let waiting = 0;
  const write = async (bytes: string) => {
    waiting += 1;
    await gate;
    waiting -= 1;
    terminal.write(bytes);
  };
  const tty: Tty = { write, enter: () => write(""), restore: () => true };
  return {
    tty,
    terminal,
    stall() {
      const { promise, resolve } = Promise.withResolvers<void>();
      gate = promise;
      open = resolve;
    },
    goOn: () => open(),
    get waiting() {
      return waiting;
    },
  };
}

test("a terminal that takes nothing stops neither keys nor data, and then shows what is now", async () => {
  await using head = startFakeHead(manyWorkers(200));
  const slow = stallingTty(80, 24);
  const ending = new AbortController();
  let type: (bytes: Uint8Array) => void = () => {};
  const client = { url: head.url, timeoutMs: 5000, retryPausesMs: [] };
  const run = runTop({
    options: { ...OPTIONS, head: head.url, intervalMs: 20 },
    head: {
      stream: (path, signal) => getStream(client, path, signal),
      post: (path, body) => postJson(client, path, body),
    },
    logs: async function* () {},
    palette: paletteOf("auto", true),
    draw: UTF8,
    tty: slow.tty,
    keyboard: { onBytes: (listener) => void (type = listener), onEnd: () => {} },
    size: () => ({ columns: 80, rows: 24 }),
    onResize: () => {},
    signal: ending.signal,
    settings: { tickMs: 50 },
  });
  const shown = () => slow.terminal.text().join("\n");
  await waitFor(() => shown().includes("gpu-037"), { what: "the first screen" });
  slow.stall();
  const before = shown();
  type(new TextEncoder().encode("2"));
  await waitFor(() => head.query?.view === "models", { what: "the key's question" });
  for (let i = 0; i < 20; i += 1) head.push();
  type(new TextEncoder().encode("14"));
  await waitFor(() => head.query?.view === "events", { what: "the next key's question" });
  expect(shown()).toBe(before);
  expect(slow.waiting).toBeLessThanOrEqual(1);
  slow.goOn();
  await waitFor(() => shown().includes("[4 Events]"), { what: "the screen of now" });
  expect(slow.terminal.clears).toBe(1);
  ending.abort();
  expect(await run).toBe("over");
});

test("a bug in the drawing ends it with the bug", async () => {
  await using head = startFakeHead();
  head.more = { rows: [{ name: "broken" }], frame: frame(cluster()).frame };
  const slow = stallingTty(80, 24);
  const client = { url: head.url, timeoutMs: 5000, retryPausesMs: [] };
  let restored = 0;
  const problem = await runTop({
    options: { ...OPTIONS, head: head.url },
    head: {
      stream: (path, signal) => getStream(client, path, signal),
      post: (path, body) => postJson(client, path, body),
    },
    logs: async function* () {},
    palette: paletteOf("auto", true),
    draw: UTF8,
    tty: { ...slow.tty, restore: () => (restored += 1) > 0 },
    keyboard: { onBytes: () => {}, onEnd: () => {} },
    size: () => ({ columns: 80, rows: 24 }),
    onResize: () => {},
    signal: new AbortController().signal,
  }).then(
    () => null,
    (error: unknown) => error,
  );
  expect(problem).toBeInstanceOf(TypeError);
  expect(restored).toBe(1);
});
