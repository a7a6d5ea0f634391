import { expect, test } from "bun:test";
import { resolve } from "node:path";
import { createOutput, type Sink } from "../../../src/cli/base/terminal.ts";
import { waitFor } from "../../helpers/wait.ts";

const FIXTURE = resolve(import.meta.dir, "../fixtures/stalled.ts");

/** A sink whose flushes settle when the test says so. */
function heldSink() {
  const written: string[] = [];
  const waiting: Array<PromiseWithResolvers<number>> = [];
  const sink: Sink = {
    write: (text) => written.push(text),
    flush() {
      const pending = Promise.withResolvers<number>();
      waiting.push(pending);
      return pending.promise;
    },
  };
  return { sink, written, waiting };
}

test("text is written at once and in order", async () => {
  const written: string[] = [];
  const output = createOutput({ write: (text) => written.push(text), flush: () => 0 });
  output.write("a\n");
  output.write("b\n");
  expect(written).toEqual(["a\n", "b\n"]);
  await output.flush();
});

test("while the reader stalls lines wait, and flush waits for them", async () => {
  const { sink, written, waiting } = heldSink();
  const output = createOutput(sink);
  for (const line of ["a\n", "b\n", "c\n"]) output.write(line);
  expect(written).toEqual(["a\n"]);
  let flushed = false;
  const flush = output.flush().then(() => (flushed = true));
  waiting[0]?.resolve(2);
  await waitFor(() => waiting.length === 2);
  expect([written, flushed]).toEqual([["a\n", "b\nc\n"], false]);
  waiting[1]?.resolve(4);
  await flush;
});

test("beyond the limit lines are dropped, and the gap is told", async () => {
  const { sink, written, waiting } = heldSink();
  const output = createOutput(sink, 10);
  for (const line of ["first\n", "kept 1\n", "lost 2\n", "lost 3\n"]) output.write(line);
  waiting[0]?.resolve(6);
  await waitFor(() => waiting.length === 2);
  waiting[1]?.resolve(1);
  await output.flush();
  expect(written.join("")).toBe(
    "first\nkept 1\n(2 lines dropped: they came faster than they were read)\n",
  );
});

test("a reader that went away is no failure", async () => {
  const { sink, written, waiting } = heldSink();
  const output = createOutput(sink);
  output.write("a\n");
  output.write("b\n");
  waiting[0]?.reject(new Error("EPIPE"));
  await output.flush();
  output.write("c\n");
  await output.flush();
  expect(written).toEqual(["a\n"]);

  const closed = createOutput({
    write() {
      throw new Error("EPIPE");
    },
    flush: () => 0,
  });
  closed.write("a\n");
  await closed.flush();
});

test("a real pipe that nobody reads does not block the process", async () => {
  const child = Bun.spawn([process.execPath, FIXTURE], {
    stdio: ["ignore", "pipe", "pipe"],
    lazy: true, // otherwise Bun reads the pipe into memory by itself
  });
  try {
    // Not one byte of stdout is read before the process has told that it is alive.
    const { value } = await child.stderr.getReader().read();
    expect(new TextDecoder().decode(value)).toBe("still alive\n");
    const lines = (await new Response(child.stdout).text()).split("\n");
    expect(lines[0]).toBe("line 0 ".padEnd(100, "x"));
    expect(lines.at(-2)).toMatch(/^\(\d+ lines dropped: they came faster than they were read\)$/);
    expect(lines.length).toBeLessThan(30_000);
    expect(await child.exited).toBe(0);
  } finally {
    child.kill("SIGKILL");
    await child.exited;
  }
});
