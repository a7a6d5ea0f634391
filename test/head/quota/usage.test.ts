import { Database } from "bun:sqlite";
import { expect, test } from "bun:test";
import { mkdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import path from "node:path";
import { HOUR_MS, startUsage, type UsageSettings } from "../../../src/head/quota/usage.ts";
import { USAGE_FILE, type UsageBy } from "../../../src/head/quota/usage-file.ts";
import { tokensOf } from "../../../src/head/quota/usage-tokens.ts";
import type { RequestRecord } from "../../../src/proxy/record/record.ts";
import { memoryLog } from "../../helpers/cluster.ts";
import { spawnProcess } from "../../helpers/process.ts";
import { attempt, record } from "../../helpers/record.ts";
import { tempDir } from "../../helpers/temp.ts";
import { waitFor } from "../../helpers/wait.ts";

const SOURCE = path.resolve(import.meta.dir, "../../../src");
const HOUR = 500_000;

/** A request of a key that cost `input` and `output` tokens. */
function request(key: string, more: Partial<RequestRecord> = {}): RequestRecord {
  return record({
    key: { id: key, name: key },
    usage: { input: 30, output: 4, cachedInput: 20, reasoning: null },
    ...more,
  });
}

function startAt(dir: string, settings: Partial<UsageSettings> = {}) {
  const clock = { hour: HOUR };
  const { log, lines } = memoryLog();
  const usage = startUsage({
    dir,
    log,
    now: () => clock.hour * HOUR_MS + 1000,
    settings: { flushMs: 10, ...settings },
  });
  const report = async (
    by: UsageBy[],
    which: { key?: string; model?: string; hours?: number } = {},
  ) => {
    const since = (clock.hour - (which.hours ?? 24)) * HOUR_MS;
    const { key = null, model = null } = which;
    return (await usage.report({ by, since, key, model })).rows;
  };
  return { usage, report, clock, lines };
}

/** The requests in the file; 0 also while there is none. */
const rowsIn = (dir: string): number => {
  const name = path.join(dir, USAGE_FILE);
  if (!statSync(name, { throwIfNoEntry: false })?.isFile()) return 0;
  using file = new Database(name, { readonly: true });
  if (file.query("SELECT 1 FROM sqlite_schema WHERE name = 'usage'").values().length === 0)
    return 0;
  const [count] = file.query("SELECT coalesce(sum(requests), 0) FROM usage").values().flat();
  return Number(count);
};
const written = (dir: string, count: number) =>
  waitFor(() => rowsIn(dir) === count, { what: `${count} requests in the file` });

test("what was used is summed by key and model, by hour and by day, before and after it is written", async () => {
  using dir = tempDir();
  const { usage, report, clock } = startAt(dir.path);
  await using _ = usage;
  usage.note(request("k1"));
  usage.note(
    request("k1", { status: 502, error: "upstream_broken", usage: null, firstByteMs: null }),
  );
  usage.note(request("k1", { model: "other" }));
  usage.note(request("k2", { status: 499, error: "client_gone", usageEstimated: true }));
  usage.note(request("k2", { model: "nobody's", modelKnown: false }));
  usage.note(record({ key: null, usage: { input: 1, output: 2, cachedInput: 9, reasoning: 0 } }));
  const expected = [
    ["", "qwen", 1, 0, 1, 1, 2, 0],
    ["k1", "other", 1, 0, 30, 20, 4, 0],
    ["k1", "qwen", 2, 1, 30, 20, 4, 0],
    ["k2", "qwen", 1, 0, 30, 20, 4, 4],
    ["k2", "unresolved", 1, 0, 30, 20, 4, 0],
  ];
  const seen = async () =>
    (await report(["key", "model"])).map((row) => [
      ...[row.key, row.model, row.requests, row.errors],
      ...[row.input, row.cachedInput, row.output, row.estimated],
    ]);
  expect(await seen()).toEqual(expected);
  await written(dir.path, 6);
  expect(await seen()).toEqual(expected);
  // Half in the file, half in memory.
  clock.hour += 20;
  usage.note(request("k1"));
  const hours = await report(["hour"], { key: "k1" });
  expect(hours.map(({ hour, key, requests }) => [hour, key, requests])).toEqual([
    [HOUR, null, 3],
    [HOUR + 20, null, 1],
  ]);
  const days = await report(["day"], { key: "k1", model: "qwen" });
  expect(days.map(({ day, requests }) => [day, requests])).toEqual([
    [Math.floor(HOUR / 24), 2],
    [Math.floor((HOUR + 20) / 24), 1],
  ]);
  expect(await report(["key"], { hours: 1 })).toMatchObject([{ key: "k1", requests: 1 }]);
  expect(await report([], { key: "nobody" })).toEqual([]);
  expect(await report([])).toMatchObject([{ key: null, requests: 7 }]);
});

test("a second life goes on with what was used today, and only today", async () => {
  using dir = tempDir();
  const midnight = HOUR - (HOUR % 24);
  {
    const { usage, clock } = startAt(dir.path);
    await using _ = usage;
    clock.hour = midnight - 1;
    usage.note(request("k1"));
    clock.hour = midnight;
    usage.note(request("k1"));
    usage.note(request("k1", { model: "other" }));
    usage.note(request("k2"));
  }
  expect(statSync(path.join(dir.path, USAGE_FILE)).mode & 0o777).toBe(0o600);
  const { usage, clock } = startAt(dir.path);
  await using _ = usage;
  clock.hour = midnight + 5;
  expect([...usage.today()]).toEqual([
    ["k1", 68],
    ["k2", 34],
  ]);
});

test("kill -9 loses less than the second in which it comes", async () => {
  using dir = tempDir();
  const script = `
    import { startUsage } from "${SOURCE}/head/quota/usage.ts";
    import { silentLog } from "${SOURCE}/util/log.ts";
    import { record } from "${path.resolve(import.meta.dir, "../../helpers/record.ts")}";
    const usage = startUsage({ dir: ${JSON.stringify(dir.path)}, log: silentLog, now: Date.now });
    usage.note(record());
    console.log("noted at", performance.now());
    setTimeout(() => { usage.note(record()); console.log("a second later"); }, 1000);
    setInterval(() => {}, 1000);
  `;
  await using child = spawnProcess([process.execPath, "-e", script]);
  await waitFor(() => child.stdout().includes("a second later"), { what: "the second request" });
  child.kill("SIGKILL");
  await child.finished;
  expect(rowsIn(dir.path)).toBeGreaterThanOrEqual(1);
});

test("what cannot be written is kept, complained of once, and written when that is possible", async () => {
  using dir = tempDir();
  const file = path.join(dir.path, USAGE_FILE);
  mkdirSync(file);
  const { usage, report, lines } = startAt(dir.path);
  await using _ = usage;
  expect([...usage.today()]).toEqual([]);
  for (let i = 0; i < 20; i += 1) {
    usage.note(request("k1"));
    await Bun.sleep(5);
  }
  expect(await report(["key"])).toMatchObject([{ key: "k1", requests: 20 }]);
  expect(lines.filter((line) => line.includes("usage cannot be written"))).toHaveLength(1);
  rmSync(file, { recursive: true });
  await written(dir.path, 20);
});

test("memory is bounded while nothing can be written: the rest is added up", async () => {
  using dir = tempDir();
  mkdirSync(path.join(dir.path, USAGE_FILE));
  const { usage, report, clock } = startAt(dir.path, { maxPending: 3 });
  await using _ = usage;
  for (let i = 0; i < 10; i += 1) usage.note(request(`k${i}`));
  clock.hour += 1;
  usage.note(request("k1"));
  const rows = await report(["hour", "key"]);
  expect(rows.map(({ hour, key, requests }) => [hour, key, requests])).toEqual([
    [HOUR, "k0", 1],
    [HOUR, "k1", 1],
    [HOUR, "k2", 1],
    [HOUR, "other", 7],
    [HOUR + 1, "other", 1],
  ]);
});

test("a damaged file is put aside, and a new one is begun", async () => {
  using dir = tempDir();
  const file = path.join(dir.path, USAGE_FILE);
  writeFileSync(file, "this is no database, and never was one: ".repeat(100));
  const { usage, lines } = startAt(dir.path);
  await using _ = usage;
  expect([...usage.today()]).toEqual([]);
  expect(lines.join("")).toContain("usage file is damaged");
  usage.note(request("k1"));
  await written(dir.path, 1);
  expect(lines.join("")).not.toContain("cannot be written");
  expect(statSync(`${file}.damaged`).size).toBe(4000);
});

test("what is older than is kept goes away, and an answer has its limit", async () => {
  using dir = tempDir();
  const { usage, report, clock } = startAt(dir.path, { keepHours: 48, maxRows: 4 });
  await using _ = usage;
  usage.note(request("k1"));
  await written(dir.path, 1);
  clock.hour += 49;
  usage.note(request("k2"));
  await waitFor(async () => (await report(["key"], { hours: 100 })).length === 1);
  expect(await report(["key"], { hours: 100 })).toMatchObject([{ key: "k2" }]);
  for (let i = 0; i < 5; i += 1) usage.note(request(`k${i}`));
  const told = await report(["key"]).then(
    () => null,
    (error: unknown) => error,
  );
  expect(told).toMatchObject({ code: "refused" });
  expect(await report(["model"])).toHaveLength(1);
});

test("what no engine says is estimated, and marked", () => {
  const nothing = { usage: null, promptBytes: 401, status: 200 };
  const input = 101;
  const cases: [what: string, Partial<RequestRecord>, [number, number, number]][] = [
    [
      "an engine that says all",
      { usage: { input: 7, output: 0, cachedInput: 9, reasoning: null } },
      [7, 0, 0],
    ],
    ["a stream without usage", { ...nothing, chunks: 12 }, [input, 12, input + 12]],
    ["a whole answer without", { ...nothing, stream: false }, [input, 0, input]],
    [
      "a stream that was cut",
      {
        ...nothing,
        usage: { input: null, output: 5, cachedInput: null, reasoning: null },
        usageEstimated: true,
      },
      [input, 5, input + 5],
    ],
    [
      "one that no engine got",
      { ...nothing, status: 503, attempts: [], firstByteMs: null },
      [0, 0, 0],
    ],
    ["one that was refused", { ...nothing, status: 400, firstByteMs: null }, [0, 0, 0]],
    [
      "a client that left an engine at work",
      { ...nothing, status: 499, firstByteMs: null, chunks: 0 },
      [input, 0, input],
    ],
    [
      "a client that left a queue",
      { ...nothing, status: 499, attempts: [], firstByteMs: null },
      [0, 0, 0],
    ],
    [
      "embeddings",
      { ...nothing, operation: "embeddings", promptBytes: null, bytesIn: 40 },
      [10, 0, 10],
    ],
    ["what has no prompt", { ...nothing, operation: "tokenize" }, [0, 0, 0]],
    [
      "nonsense",
      {
        usage: { input: -1, output: Number.NaN, cachedInput: 1e300, reasoning: null },
        status: 400,
        firstByteMs: null,
      },
      [0, 0, 0],
    ],
  ];
  for (const [what, more, expected] of cases) {
    const {
      input: asked,
      output,
      estimated,
    } = tokensOf(record({ attempts: [attempt()], ...more }));
    expect([what, asked, output, estimated]).toEqual([what, ...expected]);
  }
});
