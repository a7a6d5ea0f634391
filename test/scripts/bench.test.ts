import { expect, test } from "bun:test";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import fc from "fast-check";
import { type Figures, judge } from "../../scripts/bench/front/judge.ts";
import { FULL, QUICK } from "../../scripts/bench/front/options.ts";
import { readFrontOptions } from "../../scripts/bench/front/front.ts";
import { createMessageReader } from "../../scripts/bench/http1.ts";
import { allowedCores, cpuMs, descriptors, residentBytes } from "../../scripts/bench/proc.ts";
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

test("options: limits by size, single ones by name, anything else refused", () => {
  expect(readFrontOptions([])).toMatchObject({
    limits: FULL,
    parts: ["requests", "streams", "soak"],
    json: null,
    withPortkey: false,
    withKeys: false,
  });
  const quick = readFrontOptions(["--quick", "--only", "soak", "--soak", "5s", "--shapes", "3@7"]);
  expect(quick.parts).toEqual(["soak"]);
  expect(quick.limits.soak).toEqual({ ...QUICK.soak, durationMs: 5000 });
  expect(quick.limits.streams.shapes).toEqual([{ streams: 3, rate: 7 }]);
  expect(FULL.soak.durationMs).toBe(600_000);
  for (const args of [
    ["--only", "nothing"],
    ["--rounds", "0"],
    ["--sizes", "200,x"],
    ["--slice", "5"],
    ["--wrong"],
    ["word"],
  ]) {
    expect(() => readFrontOptions(args)).toThrow();
  }
});

function requestsRow(target: RequestsRow["target"], requestsPerS: number): RequestsRow {
  return {
    body_bytes: 2048,
    concurrency: 1,
    target,
    requests_per_s: requestsPerS,
    p50_us: 100,
    p99_us: 200,
    added_p50_us: 80,
    added_p99_us: 3000,
    cpu_us_per_request: 50,
    busy: 1,
    errors: 0,
  };
}

test("a verdict is met, not met, or not measured", () => {
  const nothing: Figures = { requests: [], streams: [], soak: [] };
  expect(judge(nothing).map(({ met }) => met)).toEqual(Array.from({ length: 7 }, () => null));
  const requests = [requestsRow("bare", 1000), requestsRow("llmnode", 800)];
  const [rate, p50, p99] = judge({ ...nothing, requests });
  expect(rate).toMatchObject({ met: true, measured: "0.80 (2048 B x 1)" });
  expect(p50).toMatchObject({ met: true, measured: "0.08 ms" });
  expect(p99).toMatchObject({ met: false, measured: "3.00 ms" });
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
        ...["--quick", "--only", "requests", "--rounds", "1", "--slice", "20ms"],
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
  expect(readPairsOptions(["--old", "a"])).toEqual({ old: "a", new: null, pairs: 8 });
  for (const args of [[], ["--old", "a", "--pairs", "0"], ["--old", "a", "--pairs", "x"]]) {
    expect(() => readPairsOptions(args)).toThrow();
  }
});
