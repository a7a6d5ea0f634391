import { expect, test } from "bun:test";
import { appendFile, readFile, stat, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { openEngineLog, type LogLimits } from "../../../src/engine/log/file.ts";
import { openLogIndex } from "../../../src/engine/log/log-index.ts";
import { silentLog } from "../../../src/util/log.ts";
import { LlmnodeError } from "../../../src/protocol/errors.ts";
import { scratchFolder, startEngine, until } from "../harness.ts";

const LIMITS: LogLimits = {
  logTickBytes: 10_000,
  logMaxBytes: 5_000,
  logKeepBytes: 1_000,
  lineMaxBytes: 200,
};

async function withLog(limits: Partial<LogLimits> = {}) {
  const folder = await scratchFolder();
  const path = join(folder.path, "engine.log");
  const index = openLogIndex(path, { log: silentLog });
  return { folder, path, index, open: () => openEngineLog(index, { ...LIMITS, ...limits }) };
}

test("only what is new is read, line by line, whole lines only", async () => {
  const { folder, path, open } = await withLog();
  await using _folder = folder;
  await writeFile(path, "from an earlier run\n");
  await using log = await open();
  expect(await log.read()).toEqual([]);
  await appendFile(path, "one\r\n\ntwo\u001b[31m red\u001b[0m\nthr");
  expect(await log.read()).toEqual(["one", "two red"]);
  await appendFile(path, "ee\n10%\r20%\rrest");
  expect(await log.read()).toEqual(["three", "10%", "20%"]);
  expect(await log.readRest()).toEqual(["rest"]);
});

test("a file that is too long keeps its end, and the reading goes on in it", async () => {
  const { folder, path, open } = await withLog();
  await using _folder = folder;
  await using log = await open();
  expect((await stat(path)).mode & 0o777).toBe(0o600);
  await using output = await log.openForChild();
  const lines = Array.from({ length: 100 }, (_, i) => `line ${i} ${"x".repeat(60)}`);
  await output.write(`${lines.join("\n")}\nunfinished`);
  const { size } = await stat(path);
  expect(await log.read()).toEqual(lines);
  expect((await stat(path)).size).toBe(1_000);
  expect(log.dropped).toEqual({ bytes: size - 1_000, unreadBytes: 0 });
  // Whoever holds the file for appending goes on at its new end.
  await output.write(" now finished\nnext\n");
  expect(await log.read()).toEqual(["unfinished now finished", "next"]);
  expect((await readFile(path, "utf8")).endsWith("unfinished now finished\nnext\n")).toBe(true);
});

test("output that comes too fast is skipped and counted", async () => {
  const { folder, path, open } = await withLog({ logTickBytes: 100, logMaxBytes: 1e9 });
  await using _folder = folder;
  await using log = await open();
  const lines = Array.from({ length: 100 }, (_, i) => `number ${i}`);
  await appendFile(path, `${lines.join("\n")}\n`);
  const read = await log.read();
  expect(read[0]).toContain("skipped");
  expect(read.slice(1)).toEqual(lines.slice(-(read.length - 1)));
  expect(read.length).toBeLessThan(14);
});

test("long lines are cut, and a file that somebody else cut is read from its start", async () => {
  const { folder, path, open } = await withLog();
  await using _folder = folder;
  await using log = await open();
  await appendFile(path, `${"y".repeat(5_000)}\nshort\n`);
  const [long, short] = await log.read();
  expect(long?.length).toBeLessThanOrEqual(200);
  expect(short).toBe("short");
  await truncate(path, 0);
  await appendFile(path, "anew\n");
  expect(await log.read()).toEqual(["anew"]);
});

test("a folder that is not there is an expected failure", async () => {
  const opening = openEngineLog(
    openLogIndex("/no/such/folder/engine.log", { log: silentLog }),
    LIMITS,
  );
  const error = await opening.then(
    () => null,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(LlmnodeError);
});

test("100 MB of output leave a small file, a bounded memory and a living engine", async () => {
  const script =
    "yes 'a line of engine output that is not short at all' | head -c 100000000; echo; echo over; sleep 60";
  const before = process.memoryUsage().rss;
  await using engine = await startEngine({ argv: ["sh", "-c", script] });
  await until(() => engine.lines.includes("over"), "the end of the output");
  expect(process.memoryUsage().rss - before).toBeLessThan(150e6);
  expect((await stat(join(engine.dir, "engine.log"))).size).toBeLessThan(60e6);
  expect(engine.lines.some((line) => line.includes("skipped"))).toBe(true);
  expect(engine.supervisor.status().state).toBe("starting");
});
