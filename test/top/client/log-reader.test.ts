import { expect, test } from "bun:test";
import { type LogWanted, startLogReader } from "../../../src/top/client/log-reader.ts";
import { startLogs } from "../../../src/top/state/logs.ts";
import type { LogPiece, TopEvent } from "../../../src/top/state/event.ts";
import type { LogsState } from "../../../src/top/state/state.ts";
import { waitFor } from "../../helpers/wait.ts";

function logsOf(engine: string): LogsState {
  const page = startLogs(engine, { kind: "table" });
  if (page.kind !== "logs") throw new Error("no log");
  return page.logs;
}

/** A source that gives what it is told to, and remembers what it was asked. */
function source() {
  const asked: { wanted: LogWanted; signal: AbortSignal }[] = [];
  const pieces: LogPiece[] = [];
  let wake = Promise.withResolvers<void>();
  let problem: Error | null = null;
  return {
    asked,
    give(piece: LogPiece) {
      pieces.push(piece);
      wake.resolve();
    },
    fail(error: Error) {
      problem = error;
      wake.resolve();
    },
    async *read(wanted: LogWanted, signal: AbortSignal): AsyncGenerator<LogPiece> {
      asked.push({ wanted, signal });
      for (;;) {
        const piece = pieces.shift();
        if (piece) yield piece;
        else if (problem) throw problem;
        else {
          await wake.promise;
          wake = Promise.withResolvers<void>();
        }
      }
    },
  };
}

const line = (text: string): LogPiece => ({ lines: [{ time: null, text }], skipped: 0 });

test("a log is read once, however often it is wanted", async () => {
  const log = source();
  const events: TopEvent[] = [];
  using reader = startLogReader(log.read, (event) => void events.push(event));
  reader.follow(logsOf("a/1"));
  reader.follow({ ...logsOf("a/1"), wrap: true, scroll: 7 });
  log.give(line("hello"));
  log.give({ lines: [], skipped: 0, live: "62%" });
  log.give({ lines: [], skipped: 0 });
  log.give({ lines: [], skipped: 3 });
  await waitFor(() => events.length === 3);
  expect(log.asked.map(({ wanted }) => wanted)).toEqual([
    { engine: "a/1", previous: false, sinceMs: null, take: 0 },
  ]);
  expect(events).toEqual([
    { type: "log", engine: "a/1", lines: [{ time: null, text: "hello" }], skipped: 0, live: null },
    { type: "log", engine: "a/1", lines: [], skipped: 0, live: "62%" },
    { type: "log", engine: "a/1", lines: [], skipped: 3, live: null },
  ]);
});

test("another one takes its place, and what still comes of the first is dropped", async () => {
  const log = source();
  const events: TopEvent[] = [];
  using reader = startLogReader(log.read, (event) => void events.push(event));
  reader.follow(logsOf("a/1"));
  await waitFor(() => log.asked.length === 1);
  reader.follow({ ...logsOf("a/1"), previous: true });
  await waitFor(() => log.asked.length === 2);
  expect(log.asked.map(({ signal }) => signal.aborted)).toEqual([true, false]);
  reader.follow({ ...logsOf("a/1"), previous: true, take: 1 });
  await waitFor(() => log.asked.length === 3);
  reader.follow(null);
  expect(log.asked.at(-1)?.signal.aborted).toBe(true);
  log.give(line("too late"));
  await Bun.sleep(0);
  expect(events).toEqual([]);
});

test("an end says why", async () => {
  const log = source();
  const events: TopEvent[] = [];
  using reader = startLogReader(log.read, (event) => void events.push(event));
  reader.follow(logsOf("a/1"));
  log.fail(new Error("a has no engine"));
  await waitFor(() => events.length === 1);
  expect(events).toEqual([{ type: "log_ended", engine: "a/1", reason: "a has no engine" }]);
});
