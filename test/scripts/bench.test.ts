import { expect, test } from "bun:test";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import fc from "fast-check";
import { type Figures, judge } from "../../scripts/bench/front/judge.ts";
import { FULL, QUICK } from "../../scripts/bench/front/options.ts";
import { readFrontOptions } from "../../scripts/bench/front/front.ts";
import { frontReport, ratios } from "../../scripts/bench/front/report.ts";
import { createMessageReader } from "../../scripts/bench/http1.ts";
import {
  allowedCores,
  cpuMeter,
  cpuMs,
  descriptors,
  residentBytes,
  threadKind,
} from "../../scripts/bench/proc.ts";
import { readPairsOptions, rowOf } from "../../scripts/bench/pairs.ts";
import { rotated, type RequestsRow } from "../../scripts/bench/requests.ts";
import { histogram, median, slope } from "../../scripts/bench/stats.ts";
import { table } from "../../scripts/bench/table.ts";
import {
  createFrameReader,
  type Frame,
  frameChunk,
  lastChunks,
  plainRequest,
  readWish,
  streamRequest,
} from "../../scripts/bench/wire.ts";
import { binaryPath } from "../helpers/binary.ts";
import { processesWithEnvironment, runProcess } from "../helpers/process.ts";

test("the median of rounds", () => {
  expect(median([])).toBeNaN();
  expect(median([3])).toBe(3);
  expect(median([9, 1, 5])).toBe(5);
  expect(median([4, 1, 3, 2])).toBe(2.5);
});

test("percentiles are within a percent of the sorted list's", () => {
  const us = fc.array(fc.double({ min: 2, max: 1e8, noNaN: true }), { minLength: 1 });
  fc.assert(
    fc.property(us, fc.constantFrom(0.01, 0.5, 0.9, 0.99, 1), (values, q) => {
      const times = histogram();
      for (const value of values) times.add(value);
      const sorted = [...values].sort((a, b) => a - b);
      const exact = sorted[Math.ceil(q * sorted.length) - 1] ?? Number.NaN;
      expect(Math.abs(times.percentile(q) / exact - 1)).toBeLessThan(0.01);
    }),
  );
});

test("a histogram survives its way between processes", () => {
  const times = histogram();
  for (const us of [0, 1, 150, 151, 90_000, 1e12]) times.add(us);
  const copy = histogram(JSON.parse(JSON.stringify(times.entries())));
  expect(copy.count).toBe(6);
  expect(copy.percentile(0.5)).toBe(times.percentile(0.5));
  expect(copy.above(200)).toBe(2);
  expect(histogram().percentile(0.5)).toBeNaN();
  expect(histogram().above(1)).toBe(0);
});

test("the slope by least squares", () => {
  const line: Array<[number, number]> = [0, 1, 2, 3].map((x) => [x, 7 - 2 * x]);
  expect(slope(line)).toBeCloseTo(-2);
  expect(
    slope([
      [0, 0],
      [1, 3],
      [2, 0],
    ]),
  ).toBeCloseTo(0);
  expect(slope([[1, 1]])).toBe(0);
  expect(slope([])).toBe(0);
});

test("a table is aligned, figures to the right, the unknown a dash", () => {
  const rows = [
    ["direct", 60_627, null],
    ["bare", 62.43, 0.7],
  ];
  expect(table(["target", "req/s", "ratio"], rows)).toBe(
    [
      "target  req/s  ratio",
      "------  -----  -----",
      "direct  60627      -",
      "bare     62.4   0.70",
    ].join("\n"),
  );
});

test("in each round another target begins", () => {
  expect(rotated(["a", "b", "c"], 0)).toEqual(["a", "b", "c"]);
  expect(rotated(["a", "b", "c"], 4)).toEqual(["b", "c", "a"]);
  expect(rotated([], 1)).toEqual([]);
});

test("frames are found in any split, and nothing else is taken for one", () => {
  const stream = `${frameChunk(0, 11)}${frameChunk(1, 22)}${lastChunks()}`;
  const answer = Buffer.from(`HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n${stream}`);
  fc.assert(
    fc.property(fc.array(fc.nat(answer.length), { maxLength: 8 }), (cuts) => {
      const found: Array<Frame | null> = [];
      const frames = createFrameReader((frame) => found.push(frame));
      let ends = 0;
      const messages = createMessageReader({
        head: (head) => expect(head).toStartWith("HTTP/1.1 200 OK"),
        body: (bytes) => frames.push(bytes),
        end: () => void (ends += 1),
      });
      const edges = [0, ...cuts, answer.length].sort((a, b) => a - b);
      for (const [i, edge] of edges.entries()) messages.push(answer.subarray(edges[i - 1], edge));
      expect(found).toEqual([{ number: 0, sentUs: 11 }, { number: 1, sentUs: 22 }, null]);
      expect([ends, frames.strange]).toEqual([1, 0]);
    }),
  );
  const frames = createFrameReader(() => {});
  frames.push(Buffer.from(`: keep-alive\n\ndata: {"error":{}}\n\n`));
  expect(frames.strange).toBe(1);
});

test("requests have the size that was asked for and say what they want", () => {
  for (const bytes of [200, 2048, 131_072]) {
    const request = plainRequest(bytes, { "x-extra": "1" });
    const text = request.toString();
    const body = text.slice(text.indexOf("\r\n\r\n") + 4);
    expect(body.length).toBe(bytes);
    expect(text).toContain(`content-length: ${bytes}\r\n`);
    expect(text).toContain("x-extra: 1\r\n");
    expect(JSON.parse(body)).toHaveProperty("model", "bench");
    expect(readWish(body)).toBeNull();
  }
  const wish = { rate: 20, frames: 7 };
  expect(readWish(streamRequest(wish, {}).toString())).toEqual(wish);
});

test("what this process uses can be read", () => {
  expect(cpuMs(process.pid)).toBeGreaterThan(0);
  expect(residentBytes(process.pid)).toBeGreaterThan(1e6);
  expect(descriptors(process.pid)).toBeGreaterThan(2);
  expect(allowedCores().length).toBeGreaterThan(0);
});

test("processor time comes by thread, and nothing of it is left out", () => {
  const meter = cpuMeter(process.pid);
  for (const start = performance.now(); performance.now() - start < 100;) Math.random();
  const { ms, threads } = meter();
  expect(threads.main).toBeGreaterThan(0);
  const sum = Object.values(threads).reduce((all, one) => all + one, 0);
  expect(sum).toBeGreaterThanOrEqual(ms);
});

test("threads are known by the names that Bun gives them", () => {
  const names = ["HTTP Client", "JITWorker", "ollector Thread", "t Helper Thread", "Bun Pool 0"];
  expect(names.map(threadKind)).toEqual(["fetch", "jit", "gc", "gc", "other"]);
});

test("options: limits by size, single ones by name, anything else refused", () => {
  expect(readFrontOptions([])).toMatchObject({
    limits: FULL,
    parts: ["requests", "streams", "soak"],
    json: null,
    withPortkey: false,
    withRouters: false,
    withKeys: false,
  });
  const quick = readFrontOptions(["--quick", "--only", "soak", "--soak", "5s", "--shapes", "3@7"]);
  expect(quick.parts).toEqual(["soak"]);
  expect(quick.limits.soak).toEqual({ ...QUICK.soak, durationMs: 5000 });
  expect(quick.limits.streams.shapes).toEqual([{ streams: 3, rate: 7 }]);
  expect(FULL.soak.durationMs).toBe(600_000);
  const asked = readFrontOptions(["--warm-up", "7", "--with-routers", "--keys"]);
  expect(asked).toMatchObject({ withRouters: true, withKeys: true });
  expect(asked.limits.warmUp).toEqual({ ...FULL.warmUp, requests: 7 });
  for (const args of [
    ["--only", "nothing"],
    ["--rounds", "0"],
    ["--warm-up", "none"],
    ["--sizes", "200,x"],
    ["--slice", "5"],
    ["--wrong"],
    ["word"],
  ]) {
    expect(() => readFrontOptions(args)).toThrow();
  }
});

function requestsRow(
  target: RequestsRow["target"],
  figures: Partial<RequestsRow> = {},
): RequestsRow {
  return {
    body_bytes: 2048,
    concurrency: 1,
    target,
    requests_per_s: 1000,
    p50_us: 100,
    p99_us: 200,
    added_p50_us: 80,
    added_p99_us: 100,
    cpu_us_per_request: 50,
    threads_us_per_request: { main: 30, fetch: 10, jit: 5, gc: 0, other: 5 },
    busy: 1,
    errors: 0,
    ...figures,
  };
}

const NOTHING: Figures = { requests: [], streams: [], soak: [] };

/** Of the first expectation with these words. */
function verdictOn(figures: Figures, words: string) {
  return judge(figures).find(({ expectation }) => expectation.includes(words));
}

test("a verdict is met, not met, or not measured", () => {
  expect(judge(NOTHING).every(({ met }) => met === null)).toBe(true);
  const requests = [
    requestsRow("bare"),
    requestsRow("llmnode", { cpu_us_per_request: 60, added_p50_us: 240, p99_us: 401 }),
    requestsRow("sglang", { cpu_us_per_request: 59 }),
  ];
  const figures = { ...NOTHING, requests };
  expect(verdictOn(figures, "1.25 times bare's CPU")).toMatchObject({
    met: true,
    measured: "1.20 (llmnode, 2048 B x 1)",
  });
  expect(verdictOn(figures, "sglang")).toMatchObject({ met: false });
  expect(verdictOn(figures, "added p50")).toMatchObject({ met: false, measured: "0.160 ms" });
  expect(verdictOn(figures, "p99")).toMatchObject({ met: false });
  expect(verdictOn(figures, "uploads")).toMatchObject({ met: null, measured: "not measured" });
});

test("with keys or without: the worse of both is held against what is expected", () => {
  const requests = [
    requestsRow("bare"),
    requestsRow("llmnode"),
    requestsRow("keys", { cpu_us_per_request: 65, p50_us: 110, requests_per_s: 900 }),
    requestsRow("bare", { body_bytes: 1024 * 1024 }),
    requestsRow("keys", { body_bytes: 1024 * 1024, cpu_us_per_request: 75 }),
  ];
  const figures = { ...NOTHING, requests };
  expect(verdictOn(figures, "bare's CPU")).toMatchObject({
    met: false,
    measured: "1.30 (keys, 2048 B x 1)",
  });
  expect(verdictOn(figures, "uploads")).toMatchObject({ met: true });
  expect(verdictOn(figures, "20 us more")).toMatchObject({ met: true, measured: "10.0 us" });
  expect(verdictOn(figures, "0.95 of the rate")).toMatchObject({ met: false });
});

test("the report has ours against each other one, and the time of each thread", () => {
  const requests = [
    requestsRow("direct", { threads_us_per_request: null, cpu_us_per_request: null }),
    requestsRow("bare", { cpu_us_per_request: 40 }),
    requestsRow("llmnode", { added_p50_us: 120 }),
    requestsRow("nginx", { cpu_us_per_request: 20 }),
  ];
  const figures = { ...NOTHING, requests };
  expect(ratios(figures)).toContainEqual({
    shape: "2048 B x 1",
    figure: "cpu_us_per_request",
    ours: "llmnode",
    to: { bare: 1.25, nginx: 2.5 },
  });
  const added = ratios(figures).find(({ figure }) => figure === "added_p50_us");
  expect(added?.to).toEqual({ bare: 1.5, nginx: 1.5 });
  const report = frontReport(figures);
  expect(report).toMatch(/^2048 B x 1 +llmnode +30 +10 +5 +0 +5$/m);
  expect(report).not.toMatch(/^2048 B x 1 +direct/m);
});

test("front --quick --only requests prints every row, and leaves nothing behind", async () => {
  const folder = mkdtempSync(join(tmpdir(), "bench-test-"));
  const mark = `BENCH_TEST_MARK=${crypto.randomUUID()}`;
  const [name = "", value = ""] = mark.split("=");
  try {
    const json = join(folder, "front.json");
    const { code, stdout, stderr } = await runProcess(
      [
        ...[process.execPath, resolve(import.meta.dir, "../../scripts/bench.ts"), "front"],
        ...[
          "--quick",
          "--only",
          "requests",
          "--rounds",
          "1",
          "--slice",
          "20ms",
          "--warm-up",
          "100",
        ],
        ...["--json", json, "--binary", await binaryPath()],
      ],
      { timeoutMs: 60_000, env: { [name]: value, TMPDIR: folder } },
    );
    expect({ code, stderr }).toMatchObject({ code: 0 });
    for (const bytes of ["200", "2048", "16384", "131072", "1048576"]) {
      for (const concurrency of ["1", "64"]) {
        for (const target of ["direct", "bare", "llmnode"]) {
          expect(stdout).toMatch(new RegExp(`^${bytes} +${concurrency} +${target} .* 0$`, "m"));
        }
      }
    }
    expect(JSON.parse(readFileSync(json, "utf8"))).toHaveProperty("ratios");
    rmSync(json);
    expect(existsSync(json)).toBe(false);
    expect([...new Bun.Glob("**/*").scanSync({ cwd: folder, onlyFiles: false })]).toEqual([]);
    expect(processesWithEnvironment(mark)).toEqual([]);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}, 90_000);

test("two binaries are compared pair by pair, whatever the machine does between pairs", () => {
  const pairs = [
    { old: 10, new: 11 },
    { old: 100, new: 100 },
    { old: 20, new: 18 },
  ];
  expect(rowOf("a figure", pairs)).toEqual(["a figure", 20, 18, 1, 0.9, 1.1]);
  expect(readPairsOptions(["--old", "a"])).toMatchObject({ new: null, pairs: 8, only: [] });
  const quick = readPairsOptions(["--old", "a", "--quick", "--only", "lane-event"]);
  expect(quick).toMatchObject({ pairs: 4, only: ["lane-event"], isQuick: true });
  for (const args of [
    [],
    ["--old", "a", "--only", "all"],
    ["--old", "a", "--pairs", "0"],
    ["--old", "a", "--pairs", "x"],
  ]) {
    expect(() => readPairsOptions(args)).toThrow();
  }
});
