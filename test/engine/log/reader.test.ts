import { expect, test } from "bun:test";
import fc from "fast-check";
import { appendFile, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { foldLines } from "../../../src/engine/log/line-splitter.ts";
import { openEngineLog, type LogLimits } from "../../../src/engine/log/file.ts";
import { ENGINE_LOG, openLogIndex } from "../../../src/engine/log/log-index.ts";
import {
  type LogReader,
  type LogReaderSettings,
  openLogReader,
} from "../../../src/engine/log/reader.ts";
import { LlmnodeError } from "../../../src/protocol/errors.ts";
import type { LogEvent, LogQuery } from "../../../src/protocol/engine-log.ts";
import { silentLog } from "../../../src/util/log.ts";
import { scratchFolder, startEngine, until } from "../harness.ts";

const ALL: LogQuery = { follow: false, tail: null, sinceMs: null, previous: false, from: null };
const LIMITS: LogLimits = {
  logTickBytes: 1e6,
  logMaxBytes: 5_000,
  logKeepBytes: 1_000,
  lineMaxBytes: 200,
};
const QUICK: Partial<LogReaderSettings> = { pollMs: 5, beatMs: 100 };

/** A log in a folder of its own, with whoever reads and cuts it for the supervisor. */
async function startLog(limits: Partial<LogLimits> = {}, before: string | null = null) {
  const folder = await scratchFolder();
  const path = join(folder.path, ENGINE_LOG);
  if (before !== null) await writeFile(path, before);
  const index = openLogIndex(path, { log: silentLog, pointMs: 0 });
  const log = await openEngineLog(index, { ...LIMITS, ...limits });
  const over = new AbortController();
  return {
    path,
    index,
    log,
    write: (text: string | Uint8Array) => appendFile(path, text),
    reader: (query: Partial<LogQuery> = {}, settings: Partial<LogReaderSettings> = {}) =>
      openLogReader(
        index,
        { ...ALL, ...query },
        { signal: over.signal, settings: { ...QUICK, ...settings } },
      ),
    async [Symbol.asyncDispose]() {
      over.abort();
      await log[Symbol.asyncDispose]();
      await folder[Symbol.asyncDispose]();
    },
  };
}

/** Everything up to the end, or up to what a follower has by now. */
async function drain(reader: LogReader): Promise<LogEvent[]> {
  const events: LogEvent[] = [];
  for (;;) {
    const next = await reader.next();
    if (next === null || next.length === 0) return events;
    events.push(...next);
  }
}

function linesOf(events: readonly LogEvent[]): string[] {
  return events.flatMap((event) => (event.type === "line" ? event.text : []));
}

function leftOut(events: readonly LogEvent[]): { lines: number; bytes: number } {
  const all = events.filter((event) => event.type === "left_out");
  return {
    lines: all.reduce((sum, { lines }) => sum + lines, 0),
    bytes: all.reduce((sum, { lost_bytes: bytes }) => sum + bytes, 0),
  };
}

async function shown(log: { reader(query: Partial<LogQuery>): Promise<LogReader> }, query = {}) {
  return linesOf(await drain(await log.reader(query)));
}

test("lines are what a terminal is left with, and safe to print", async () => {
  await using log = await startLog();
  const texts = ["\r 10%|#   |\r100%|####|\n", "dos\r\n", "\n", "\u001b[31mred\u001b[0m\u0007\n"];
  await log.write(texts.join(""));
  await log.write(new Uint8Array([0x62, 0xff, 0x61, 0x64, 0x0a]));
  await log.write(`--api-key abcdefgh12345 ${"y".repeat(20_000)}\nunfin`);
  const lines = linesOf(await drain(await log.reader({}, { lineMaxBytes: 100 })));
  expect(lines.slice(0, 5)).toEqual(["100%|####|", "dos", "", "red", "b\ufffdad"]);
  expect(lines[5]).toStartWith("--api-key *** yyy");
  expect(lines[5]).toEndWith("y…");
  expect(lines[5]?.length).toBeLessThanOrEqual(100);
  expect(lines[6]).toBe("unfin");
});

test("pieces make no difference to folded lines", () => {
  const text = fc.array(fc.constantFrom("a", "bc", "\r", "\n", "ü"), { maxLength: 40 });
  fc.assert(
    fc.property(text, fc.integer({ min: 1, max: 7 }), (parts, size) => {
      const bytes = new TextEncoder().encode(parts.join(""));
      const folder = foldLines(50);
      const lines: string[] = [];
      for (let i = 0; i < bytes.length; i += size) {
        lines.push(...folder.push(bytes.subarray(i, i + size)));
      }
      lines.push(...folder.flush());
      const expected = parts
        .join("")
        .split("\n")
        .map((line) => line.split("\r").findLast((piece) => piece !== "") ?? "");
      if (expected.at(-1) === "") expected.pop();
      expect(lines).toEqual(expected);
    }),
  );
});

test("the last lines, all of them, none of them", async () => {
  await using log = await startLog({ logMaxBytes: 1e6 });
  const lines = Array.from({ length: 5_000 }, (_, i) => `line ${i}`);
  await log.write(`${lines.join("\n")}\n`);
  expect(await shown(log, { tail: 3 })).toEqual(lines.slice(-3));
  expect(await shown(log, { tail: 4_999 })).toEqual(lines.slice(1));
  expect(await shown(log, { tail: 9_999 })).toEqual(lines);
  expect(await shown(log, { tail: 0 })).toEqual([]);
  await log.write("unfinished");
  expect(await shown(log, { tail: 2 })).toEqual(["line 4999", "unfinished"]);
});

test("a follower gets what comes, progress as it is by now, and where it can go on", async () => {
  await using log = await startLog();
  await log.write("old\n");
  const reader = await log.reader({ follow: true, tail: 0 });
  await drain(reader);
  await log.write("new\n 5%\r10%");
  const events = await drain(reader);
  expect(events.filter(({ type }) => type !== "position")).toEqual([
    { type: "line", text: "new" },
    { type: "live", text: "10%" },
  ]);
  const last = events.findLast(({ type }) => type === "position");
  // It ends while nobody looks, and somebody comes back for the rest.
  await log.write("\r20%\nmore\n");
  const from = last?.type === "position" ? last.position : null;
  expect(await shown(log, { from, tail: 0 })).toEqual(["20%", "more"]);
  // Of another log it says nothing.
  expect(await shown(log, { from: "other:3:0", tail: 1 })).toEqual(["more"]);
});

test("the time of lines is known, also of those of an earlier life of the worker", async () => {
  await using log = await startLog();
  const minute = 60_000;
  const now = Date.now();
  const write = async (text: string, ago: number) => {
    const position = log.index.end;
    await log.write(text);
    const at = { from: now - ago, to: now - ago };
    log.index.seen(position, new TextEncoder().encode(text), at);
  };
  await write("old\n", 60 * minute);
  await write("half of a ", 20 * minute);
  await write("line\n", 10 * minute);
  await write("new\n", minute);
  expect(await shown(log, { sinceMs: 2 * minute })).toEqual(["new"]);
  expect(await shown(log, { sinceMs: 15 * minute })).toEqual(["half of a line", "new"]);
  expect(await shown(log, { sinceMs: 15 * minute, tail: 1 })).toEqual(["new"]);
  expect(await shown(log, { sinceMs: 30 * minute })).toEqual(["half of a line", "new"]);
  expect(await shown(log, { sinceMs: 120 * minute })).toHaveLength(3);
  expect(await shown(log, { sinceMs: 1 })).toEqual([]);
  log.index.save();
  const again = openLogIndex(log.path, { log: silentLog });
  expect(again.positionAt(now - 2 * minute)).toBe(log.index.positionAt(now - 2 * minute));
  expect([again.id, again.end]).toEqual([log.index.id, log.index.end]);
});

test("times stay bounded, and the older ones get coarser", async () => {
  await using folder = await scratchFolder();
  const options = { log: silentLog, pointMs: 1, maxPoints: 16, saveMs: 1e12 };
  const index = openLogIndex(join(folder.path, "log"), options);
  const line = new TextEncoder().encode("x\n");
  for (let i = 0; i < 1_000; i += 1) index.seen(i * 2, line, { from: i * 10, to: i * 10 });
  index.save();
  const saved: unknown = await Bun.file(join(folder.path, "log.index")).json();
  expect((saved as { points: unknown[] }).points.length).toBeLessThanOrEqual(16);
  // Never too late, and exact for what came last.
  for (let i = 0; i < 1_000; i += 50) expect(index.positionAt(i * 10)).toBeLessThanOrEqual(i * 2);
  expect(index.positionAt(9_980)).toBe(1_996);
  expect(index.pointAt(1_998)).toMatchObject({ position: 1_998, line: 999 });
});

/** Numbers that only go up: no line was told twice. */
function expectAscending(numbers: readonly number[]): void {
  for (const [i, number] of numbers.entries()) {
    if (i > 0) expect(number).toBeGreaterThan(numbers[i - 1] ?? 0);
  }
}

test("the file is cut under a slow follower: what it missed is counted, nothing comes twice", async () => {
  await using log = await startLog();
  const reader = await log.reader({ follow: true }, { maxBehindBytes: 500, skipKeepBytes: 200 });
  const events: LogEvent[] = [];
  let total = 0;
  for (let round = 0; round < 200; round += 1) {
    // Now and then more than is kept, in one go.
    const count = round % 7 === 0 ? 60 : 9;
    const lines = Array.from({ length: count }, (_, i) => `number ${total + i} ${"z".repeat(20)}`);
    total += count;
    await log.write(`${lines.join("\n")}\n`);
    await log.log.read();
    if (round % 3 === 0) events.push(...((await reader.next()) ?? []));
  }
  events.push(...(await drain(reader)));
  expect(log.index.base).toBeGreaterThan(10_000);
  const numbers = linesOf(events).map((line) => Number(line.split(" ")[1]));
  expectAscending(numbers);
  expect(numbers.at(-1)).toBe(total - 1);
  expect(numbers.length + leftOut(events).lines).toBe(total);
  expect(leftOut(events).lines).toBeGreaterThan(100);
  expect(leftOut(events).bytes).toBe(0);
});

test("a reader of the past is not hurried, until the past is cut away under it", async () => {
  await using log = await startLog({ logMaxBytes: 100_000, logKeepBytes: 10_000 });
  const line = (i: number) => `number ${i} ${"z".repeat(80)}`;
  const write = (from: number, to: number) =>
    log.write(Array.from({ length: to - from }, (_, i) => `${line(from + i)}\n`).join(""));
  await write(0, 900);
  await log.log.read();
  const settings = { maxBehindBytes: 1_000, skipKeepBytes: 500 };
  const follower = await log.reader({ follow: true }, settings);
  const whole = await log.reader();
  const [first, other] = [await follower.next(), await whole.next()];
  expect(linesOf(first ?? [])).toEqual(linesOf(other ?? []));
  // Some more is no reason to skip: it was that far behind before.
  await write(900, 905);
  expect(leftOut((await follower.next()) ?? [])).toEqual({ lines: 0, bytes: 0 });
  await write(905, 2_000);
  await log.log.read();
  const rest = await drain(whole);
  // It ends where the log ended when it began, and that is gone.
  const count = linesOf([...(other ?? []), ...rest]).length;
  expect(count + leftOut(rest).lines).toBeGreaterThanOrEqual(900);
  expect(rest.at(-1)).toEqual({ type: "end" });
  const late = await drain(follower);
  expect(linesOf(late).at(-1)).toBe(line(1_999));
  expect(leftOut(late).lines).toBeGreaterThan(1_000);
});

test("what nobody could read is told in bytes", async () => {
  await using log = await startLog();
  await log.write("first\n");
  await log.log.read();
  const reader = await log.reader({ follow: true });
  await drain(reader);
  // A cut that was behind the writer: bytes are lost before they were counted.
  const position = log.index.end;
  log.index.cut({ base: 0, keptLines: 1, lost: { position, bytes: 77 }, now: Date.now() });
  await log.write("the rest of a lost line\nwhole\n");
  const events = await drain(reader);
  expect(leftOut(events)).toEqual({ lines: 0, bytes: 77 });
  expect(linesOf(events).at(-1)).toBe("whole");
});

test("a log that somebody emptied, or whose index is lost, is read on", async () => {
  await using log = await startLog();
  await log.write("one\ntwo\n");
  await log.log.read();
  const reader = await log.reader({ follow: true });
  expect(linesOf(await drain(reader))).toEqual(["one", "two"]);
  await truncate(log.path, 0);
  await log.log.read();
  await log.write("three\n");
  await log.log.read();
  expect(linesOf(await drain(reader))).toEqual(["three"]);
  for (const text of ["{", "[]", '{"schema":1,"id":"x","base":-1}', '{"schema":2}']) {
    await writeFile(`${log.path}.index`, text);
    const fresh = openLogIndex(log.path, { log: silentLog });
    expect([fresh.base, fresh.end, fresh.runs]).toEqual([0, 0, []]);
    expect(fresh.id).not.toBe(log.index.id);
  }
});

test("what was written while no worker was there is counted when one is", async () => {
  await using log = await startLog({}, "one\ntwo\n");
  expect([log.index.end, log.index.pointAt(8).line]).toEqual([8, 0]);
  await log.log[Symbol.asyncDispose]();
  await log.write(`${"much\n".repeat(2_000)}last\n`);
  const index = openLogIndex(log.path, { log: silentLog });
  await using again = await openEngineLog(index, LIMITS);
  // It had grown beyond its limit; the first bytes are gone.
  expect(again.dropped.bytes).toBe(10_013 - 1_000);
  expect([index.base, index.end]).toEqual([10_013 - 1_000, 10_013]);
  const over = new AbortController();
  const reader = await openLogReader(index, { ...ALL, tail: 2 }, { signal: over.signal });
  expect(linesOf(await drain(reader))).toEqual(["much", "last"]);
});

test("the run before this one, also when this one has just crashed", async () => {
  await using folder = await scratchFolder();
  const index = openLogIndex(join(folder.path, ENGINE_LOG), { log: silentLog });
  const signal = new AbortController().signal;
  const read = async (query: Partial<LogQuery>) =>
    drain(await openLogReader(index, { ...ALL, ...query }, { signal, settings: QUICK }));
  const failure = await read({}).then(
    () => null,
    (error: unknown) => error,
  );
  expect((failure as LlmnodeError).code).toBe("not_found");
  const script = `n=$(cat n 2>/dev/null || echo 0); n=$((n+1)); echo $n >n; echo run $n
    printf 'half'; [ $n -ge 3 ] && sleep 60; exit 1`;
  await using engine = await startEngine(
    { argv: ["sh", "-c", script] },
    { cwd: folder.path, dir: folder.path, logIndex: index },
  );
  await until(() => engine.lines.includes("run 3"), "the third run");
  expect(linesOf(await read({ previous: true }))).toEqual(["run 2", "half"]);
  const all = await read({});
  // What a crash broke off is not glued to what the next run says.
  expect(linesOf(all)).toEqual(["run 1", "half", "run 2", "half", "run 3", "half"]);
  expect(all.filter(({ type }) => type === "run")).toHaveLength(2);
  await engine.supervisor.stop();
  const again = openLogIndex(join(folder.path, ENGINE_LOG), { log: silentLog });
  expect(again.runs.map(({ id }) => id)).toEqual(index.runs.map(({ id }) => id));
});

test("a run that is taken over stays the run it was", async () => {
  await using folder = await scratchFolder();
  const path = join(folder.path, ENGINE_LOG);
  const words = { argv: ["sh", "-c", "echo first; sleep 0.3; echo second; exec sleep 60"] };
  const told = { dir: folder.path, engineId: `test-${crypto.randomUUID()}` };
  await using first = await startEngine(words, told);
  await until(() => first.lines.includes("first"), "its first line");
  const [run] = openLogIndex(path, { log: silentLog }).runs;
  // What comes now is written while no worker is there.
  await first.supervisor.release();
  await until(async () => (await Bun.file(path).text()).includes("second"), "its second line");
  const index = openLogIndex(path, { log: silentLog });
  await using again = await startEngine(words, { ...told, logIndex: index });
  expect(again.supervisor.status().adopted).toBe(true);
  expect(index.runs).toEqual(run ? [run] : []);
  expect([index.end, index.runs.length]).toEqual([13, 1]);
  const signal = AbortSignal.timeout(10_000);
  expect(linesOf(await drain(await openLogReader(index, ALL, { signal })))).toEqual([
    "first",
    "second",
  ]);
});

test("there is no run before the first, and none of what is cut away", async () => {
  await using log = await startLog();
  const previous = () =>
    log.reader({ previous: true }).then(
      () => "",
      (error: unknown) => (error as LlmnodeError).message,
    );
  log.index.beginRun({ id: "a", position: 0, startedAt: 1 });
  expect(await previous()).toContain("no run before");
  await log.write("of the first\n");
  await log.log.read();
  log.index.beginRun({ id: "b", position: await log.log.end(), startedAt: 2 });
  expect(await shown(log, { previous: true })).toEqual(["of the first"]);
  await log.write("of the second\n".repeat(1_000));
  await log.log.read();
  expect(await previous()).toContain("not kept any more");
});

test("a reader ends with its signal, wherever it is", async () => {
  await using folder = await scratchFolder();
  const path = join(folder.path, ENGINE_LOG);
  await writeFile(path, "x\n".repeat(500_000));
  const index = openLogIndex(path, { log: silentLog });
  const over = new AbortController();
  const opening = openLogReader(index, { ...ALL, tail: 400_000 }, { signal: over.signal });
  over.abort(new Error("enough"));
  const failed = await opening.then(String, (error: unknown) => (error as Error).message);
  expect(failed).toBe("enough");
  const second = new AbortController();
  const options = { signal: second.signal, settings: { pollMs: 5, beatMs: 60_000 } };
  const reader = await openLogReader(index, { ...ALL, follow: true, tail: 0 }, options);
  await reader.next();
  const waiting = reader.next().then(String, (error: unknown) => (error as Error).message);
  second.abort(new Error("over"));
  expect(await waiting).toBe("over");
});

test("100 MB of output can be followed, with bounded memory", async () => {
  await using folder = await scratchFolder();
  const index = openLogIndex(join(folder.path, ENGINE_LOG), { log: silentLog });
  await writeFile(index.path, "");
  const over = new AbortController();
  const reader = await openLogReader(index, { ...ALL, follow: true }, { signal: over.signal });
  const script = "seq -f 'number %.0f of a rather long log line, as they are' 2000000; sleep 60";
  const before = process.memoryUsage().rss;
  await using _engine = await startEngine(
    { argv: ["sh", "-c", script] },
    { dir: folder.path, logIndex: index },
  );
  let told = 0;
  let last = 0;
  let lost = 0;
  let largest = 0;
  while (last < 2_000_000) {
    const events = (await reader.next()) ?? [];
    const lines = linesOf(events);
    largest = Math.max(largest, events.length);
    // Where a write fell between the last look and the cut, two halves stand in one line.
    const numbers = lines.flatMap((line) => {
      const number = /^number (\d+) of a rather long log line, as they are$/.exec(line)?.[1];
      return number === undefined ? [] : Number(number);
    });
    for (const number of numbers) {
      if (number <= last) throw new Error(`${number} after ${last}`);
      last = number;
    }
    const missed = leftOut(events);
    told += lines.length + missed.lines;
    lost += missed.bytes;
  }
  expect(process.memoryUsage().rss - before).toBeLessThan(200e6);
  expect(largest).toBeLessThan(2_000);
  expect((await Bun.file(index.path).stat()).size).toBeLessThan(60e6);
  expect(told).toBeLessThanOrEqual(2_000_000);
  // Beside what is counted, a cut may lose a write that comes within the same microsecond.
  expect(told + lost / 50).toBeGreaterThan(2_000_000 - 2_000);
  over.abort();
});
