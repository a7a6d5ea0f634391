import { expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import type { Verdict } from "../../scripts/bench/front/judge.ts";
import {
  LANE_FULL,
  LANE_QUICK,
  readLaneOptions,
  readSessionsOptions,
} from "../../scripts/bench/lane/options.ts";
import { below, judgeLane, type LaneFigures, laneRatios } from "../../scripts/bench/lane/report.ts";
import type { ListsRow } from "../../scripts/bench/sessions/lists.ts";
import {
  judgeSessions,
  type SessionsRow,
  sessionsReport,
} from "../../scripts/bench/sessions/report.ts";
import { binaryPath } from "../helpers/binary.ts";
import { processesWithEnvironment, runProcess } from "../helpers/process.ts";

const BENCH = resolve(import.meta.dir, "../../scripts/bench.ts");

test("options of lane: limits by size, single ones by name, anything else refused", () => {
  expect(readLaneOptions([])).toEqual({ limits: LANE_FULL, json: null, binary: null });
  expect(readLaneOptions(["--quick"]).limits).toEqual(LANE_QUICK);
  const args = ["--streams", "3@7", "--live", "2@9", "--stalled", "4", "--bulk", "1000"];
  const { limits } = readLaneOptions([...args, "--window", "200ms", "--rounds", "1"]);
  expect(limits.streams).toEqual({ streams: 3, rate: 7, rampMs: 200, windowMs: 200 });
  expect(limits.stalled).toMatchObject({ readers: 4, streams: 2, rate: 9 });
  expect(limits.bulk.bytes).toBe(1000);
  for (const wrong of [
    ["--rounds", "0"],
    ["--streams", "5"],
    ["--slice", "5"],
    ["--bulk", "x"],
    ["--wrong"],
    ["word"],
  ]) {
    expect(() => readLaneOptions(wrong)).toThrow();
  }
});

test("options of sessions", () => {
  expect(readSessionsOptions([])).toMatchObject({ counts: [500, 2000, 4000], limitMs: 1_200_000 });
  expect(readSessionsOptions(["--workers", "3,9", "--window", "1s"])).toMatchObject({
    counts: [3, 9],
    windowMs: 1000,
  });
  for (const wrong of [["--workers", "5,"], ["--limit", "0"], ["--window", "now"], ["word"]]) {
    expect(() => readSessionsOptions(wrong)).toThrow();
  }
});

const NOTHING: LaneFigures = { requests: [], streams: [], bulk: [], stalled: [] };

function verdictOn(verdicts: readonly Verdict[], words: string): Verdict["met"] | undefined {
  return verdicts.find(({ expectation }) => expectation.includes(words))?.met;
}

test("a verdict on lanes is met, not met, or not measured", () => {
  expect(judgeLane(NOTHING).every(({ met }) => met === null)).toBe(true);
  expect(below("x", 2, { limit: 2, unit: "s" })).toMatchObject({ met: true, measured: "2.00 s" });
  const stream = {
    streams: 1,
    rate: 1,
    frames: 100,
    worker_cpu_us_per_event: 1,
    delay_p50_us: 1,
    delay_p99_us: 1,
    bad: 0,
  };
  const streams = [
    { ...stream, target: "direct" as const, head_cpu_us_per_event: 10 },
    { ...stream, target: "lane" as const, head_cpu_us_per_event: 16, bad: 1 },
  ];
  const stalled = {
    target: "lane" as const,
    readers: 2,
    streams: 2,
    alone_p50_us: 100,
    alone_p99_us: 1000,
    beside_p50_us: 100,
    beside_p99_us: 9000,
    bad: 0,
    cut: 0,
    head_bytes_per_reader: 512 * 1024,
    worker_bytes_per_reader: 513 * 1024,
  };
  const verdicts = judgeLane({ ...NOTHING, streams, stalled: [stalled] });
  expect(verdictOn(verdicts, "CPU per event")).toBe(false);
  expect(verdictOn(verdicts, "CPU per request")).toBeNull();
  expect(verdictOn(verdicts, "no frame lost")).toBe(false);
  expect(verdictOn(verdicts, "delay the others")).toBe(false);
  expect(verdictOn(verdicts, "costs the head")).toBe(true);
  expect(verdictOn(verdicts, "costs the worker")).toBe(false);
  expect(verdictOn(verdicts, "no stalled reader cut")).toBe(true);
  expect(verdictOn(verdicts, "large bodies")).toBeNull();
});

test("a lane's cost is told as a multiple of the direct one's, the dearer shape counts", () => {
  const row = {
    requests_per_s: 1,
    p50_us: 1,
    p99_us: 1,
    added_p50_us: 1,
    added_p99_us: 1,
    over_direct_p50_us: null,
    over_direct_p99_us: null,
    errors: 0,
  };
  const cost = (target: "direct" | "lane", concurrency: number, us: [number, number]) => ({
    ...{ ...row, target, concurrency },
    ...{ head_cpu_us_per_request: us[0], worker_cpu_us_per_request: us[1] },
  });
  const requests = [
    cost("direct", 1, [100, 0]),
    cost("lane", 1, [140, 60]),
    cost("direct", 64, [100, 0]),
    cost("lane", 64, [160, 40]),
  ];
  expect(laneRatios({ requests, streams: [] })).toEqual([
    { figure: "request", shape: "requests, 1 at a time", head: 1.4, both: 2 },
    { figure: "request", shape: "requests, 64 at a time", head: 1.6, both: 2 },
  ]);
  expect(verdictOn(judgeLane({ ...NOTHING, requests }), "CPU per request")).toBe(false);
});

const SESSIONS: SessionsRow = {
  workers: 500,
  connected: 500,
  joined_s: 1,
  head_cpu_ms_per_join: 2,
  workers_cpu_ms_per_join: 3,
  heartbeats_per_s: 500,
  head_cpu_share: 0.1,
  head_cpu_ms_per_heartbeat: 0.2,
  head_memory_empty_bytes: 1,
  head_memory_bytes: 2,
  head_away_s: 1,
  back_s: 9,
  refusals: 0,
};
const LISTS: ListsRow = {
  workers: 1,
  metrics_ms: 1,
  status_ms: 1,
  models_ms: 1,
  request_p50_us: 500,
  request_p99_us: 1000,
  request_slowest_us: 2000,
  engine_p99_us: 300,
  errors: 0,
};

test("workers that take too long to come are said to, first or after a restart", () => {
  const many = { ...SESSIONS, workers: 4000, joined_s: 61, back_s: 20 };
  const sessions = [SESSIONS, { ...SESSIONS, back_s: 11 }, many];
  const met = judgeSessions({ sessions, lists: [] }).map((verdict) => verdict.met);
  expect(met).toEqual([true, true, true, false, false, true]);
});

test("a request beside the lists of many workers is held against an empty head's", () => {
  const lists = [1000, 15_900, 16_100].map((us) => ({ ...LISTS, request_p99_us: us }));
  const found = judgeSessions({ sessions: [], lists });
  expect(found.map(({ measured, met }) => [measured, met])).toEqual([
    ["14.90 ms", true],
    ["15.10 ms", false],
  ]);
});

test("sessions that were cut short have what was measured, and dashes for the rest", () => {
  const sessions = [SESSIONS, { ...SESSIONS, workers: 4000, connected: null, joined_s: null }];
  const report = sessionsReport({ sessions, lists: [LISTS] });
  expect(report).toMatch(/^ +500 +500 +1 /m);
  expect(report).toMatch(/^ +4000 +- +- /m);
  expect(report).toMatch(/^4000 workers are in within 60 s +not measured +not measured$/m);
});

async function bench(args: string[]): Promise<{ stdout: string; json: object }> {
  const folder = mkdtempSync(join(tmpdir(), "bench-lane-test-"));
  const [name, value] = ["BENCH_TEST_MARK", crypto.randomUUID()];
  try {
    const json = join(folder, "figures.json");
    const { code, stdout, stderr } = await runProcess(
      [process.execPath, BENCH, ...args, "--json", json, "--binary", await binaryPath()],
      { timeoutMs: 60_000, env: { [name]: value, TMPDIR: folder } },
    );
    expect({ code, stderr }).toMatchObject({ code: 0 });
    const figures = JSON.parse(readFileSync(json, "utf8")) as object;
    rmSync(json);
    expect([...new Bun.Glob("**/*").scanSync({ cwd: folder, onlyFiles: false })]).toEqual([]);
    expect(processesWithEnvironment(`${name}=${value}`)).toEqual([]);
    return { stdout, json: figures };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

test("lane measures the engine, direct and lane, and leaves nothing behind", async () => {
  const { stdout, json } = await bench([
    ...["lane", "--quick", "--rounds", "1", "--slice", "20ms", "--warm-up", "50"],
    ...["--window", "50ms"],
    ...["--streams", "3@20", "--bulk", "300000", "--stalled", "2", "--live", "2@20"],
  ]);
  for (const target of ["engine", "direct", "lane"]) {
    // Requests; streams; bodies both ways; streams beside stalled readers.
    expect(stdout).toMatch(new RegExp(`^${target} +1 .* 0$`, "m"));
    expect(stdout).toMatch(new RegExp(`^${target} +64 .* 0$`, "m"));
    expect(stdout).toMatch(new RegExp(`^3 at 20/s +${target} .* 0$`, "m"));
    expect(stdout).toMatch(new RegExp(`^up +${target} .* 0$`, "m"));
    expect(stdout).toMatch(new RegExp(`^down +${target} .* 0$`, "m"));
    expect(stdout).toMatch(new RegExp(`^${target} +2 +2 .* 0 +0 `, "m"));
  }
  expect(json).toMatchObject({
    schema: "llmnode.bench.lane/1",
    ratios: [{ figure: "request" }, { figure: "request" }, { figure: "event" }],
  });
}, 90_000);

test("sessions come back after the head's restart, and nothing is left behind", async () => {
  const { stdout, json } = await bench(["sessions", "--workers", "5", "--window", "200ms"]);
  expect(stdout).toMatch(/^ +5 +5 /m);
  expect(json).toMatchObject({
    schema: "llmnode.bench.sessions/1",
    sessions: [{ workers: 5, connected: 5, refusals: 0 }],
    lists: [{ workers: 1 }, { workers: 5, errors: 0 }],
  });
}, 90_000);

test("sessions that are cut short print their table", async () => {
  const args = ["sessions", "--workers", "2,3", "--window", "300ms", "--binary"];
  const child = Bun.spawn([process.execPath, BENCH, ...args, await binaryPath()], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  const stdout = child.stdout.text();
  let said = "";
  const decoder = new TextDecoder();
  for await (const chunk of child.stderr) {
    said += decoder.decode(chunk, { stream: true });
    if (said.includes("\n3 workers")) child.kill("SIGINT");
  }
  expect(await child.exited).toBe(130);
  expect(await stdout).toMatch(/^ +2 +2 /m);
}, 90_000);

test("what is no benchmark gets the usage of all", async () => {
  const { code, stderr } = await runProcess([process.execPath, BENCH, "nothing"], {
    timeoutMs: 20_000,
  });
  expect(code).toBe(2);
  for (const name of ["front", "lane", "sessions"]) expect(stderr).toContain(`bench ${name}`);
});

test("an interrupted benchmark ends what it started", async () => {
  const folder = mkdtempSync(join(tmpdir(), "bench-lane-test-"));
  const mark = crypto.randomUUID();
  const child = Bun.spawn(
    [process.execPath, BENCH, "lane", "--quick", "--binary", await binaryPath()],
    {
      stdio: ["ignore", "ignore", "pipe"],
      env: { ...process.env, BENCH_TEST_MARK: mark, TMPDIR: folder },
    },
  );
  try {
    let said = "";
    const decoder = new TextDecoder();
    for await (const chunk of child.stderr) {
      said += decoder.decode(chunk, { stream: true });
      if (said.includes("warm-up")) child.kill("SIGINT");
    }
    expect(await child.exited).toBe(130);
    expect(said).toContain("interrupted");
    expect([...new Bun.Glob("*").scanSync({ cwd: folder, onlyFiles: false })]).toEqual([]);
    expect(processesWithEnvironment(`BENCH_TEST_MARK=${mark}`)).toEqual([]);
  } finally {
    child.kill("SIGKILL");
    rmSync(folder, { recursive: true, force: true });
  }
}, 60_000);
