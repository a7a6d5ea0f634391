import { expect, test } from "bun:test";
import { createEvents } from "../../../src/head/events/events.ts";
import { createHistory } from "../../../src/head/watch/data.ts";
import { createRates, type RequestFigures } from "../../../src/head/watch/rates.ts";

const good: RequestFigures = {
  isError: false,
  isRetried: false,
  isResumed: false,
  inputTokens: 100,
  outputTokens: 0,
  ttftMs: 50,
  itlMs: 10,
};
const at = { worker: "gpu-01", model: "m" };

function clock(start = 1_000_000) {
  let now = start;
  return { now: () => now, pass: (ms: number) => void (now += ms) };
}

test("a rate is unknown until there is a past, and is that of the last minute then", () => {
  const time = clock();
  const rates = createRates(time);
  expect(rates.all().requestsPerS).toBeNull();
  rates.ended(at, good);
  expect([rates.all().requestsPerS, rates.all().errorRatio]).toEqual([null, null]);
  expect(rates.all().ttftMs).toEqual({ p50: 50, p95: 50 });
  for (let i = 0; i < 29; i += 1) {
    time.pass(2000);
    rates.ended(at, { ...good, isError: i === 0, isRetried: i < 3, ttftMs: 50 + i });
  }
  time.pass(2000);
  const all = rates.all();
  expect(all.requestsPerS).toBeCloseTo(0.5, 5);
  expect(all.inputTokensPerS).toBeCloseTo(50, 5);
  expect(all.errorRatio).toBeCloseTo(1 / 30, 5);
  expect(all.retries).toBe(3);
  expect(all.ttftMs).toEqual({ p50: 63, p95: 77 });
  expect(rates.worker("gpu-01")).toEqual(all);
  expect(rates.model("m")).toEqual(all);
  expect(rates.model("other").requestsPerS).toBeNull();
  time.pass(62_000);
  const later = rates.all();
  expect([later.requestsPerS, later.errorRatio, later.ttftMs, later.retries]).toEqual([
    0,
    null,
    null,
    0,
  ]);
});

test("tokens count while they flow, and no longer", () => {
  const time = clock();
  const rates = createRates(time);
  for (let i = 0; i < 10; i += 1) {
    rates.tokens(at, 200);
    time.pass(2000);
  }
  expect(rates.worker("gpu-01").outputTokensPerS).toBeCloseTo(100, 5);
  const past = rates.outputHistory("gpu-01");
  expect(past.length).toBe(59);
  expect(past.slice(-11)).toEqual([null, ...Array.from({ length: 10 }, () => 100)]);
  time.pass(10_000);
  expect(rates.worker("gpu-01").outputTokensPerS).toBe(0);
  time.pass(1_000_000);
  rates.tokens(at, 2);
  time.pass(2000);
  expect(rates.outputHistory("gpu-01").at(-1)).toBe(1);
  expect(rates.outputHistory("gpu-01").at(-2)).toBe(0);
});

test("who was silent longest is forgotten when there are too many", () => {
  const time = clock();
  const rates = createRates({ ...time, maxSeries: 3 });
  for (const worker of ["a", "b", "c"]) rates.ended({ worker, model: null }, good);
  time.pass(2000);
  rates.ended({ worker: "a", model: null }, good);
  rates.ended({ worker: "c", model: null }, good);
  rates.ended({ worker: "d", model: null }, good);
  time.pass(2000);
  const known = ["a", "b", "c", "d"].filter((name) => rates.worker(name).requestsPerS !== null);
  expect(known).toEqual(["a", "c", "d"]);
});

test("the history begins with what there was and keeps the newest points", () => {
  const history = createHistory(3);
  expect([history.json().points, history.latest, history.count]).toEqual([[], null, 0]);
  const point = (queued: number, ttft: number | null = null) => ({
    output_tokens_per_s: null,
    ttft_p95_ms: ttft,
    in_flight: 1,
    queued,
  });
  for (const queued of [1, 2, 3, 4]) history.push(point(queued, queued === 4 ? 12.5 : null));
  expect(history.json().points).toEqual([point(2), point(3), point(4, 12.5)]);
  expect([history.latest, history.count]).toEqual([point(4, 12.5), 4]);
});

test("events: the newest are kept, in order, with ids that go on", () => {
  const time = clock();
  const events = createEvents({ ...time, capacity: 3 });
  const heard: number[] = [];
  const stop = events.listen(({ id }) => void heard.push(id));
  for (const name of ["a", "b", "c", "d"]) {
    events.record({ level: "info", kind: "joined", worker: name, text: `${name}\u001b[2J joined` });
    time.pass(1000);
  }
  stop();
  events.record({ level: "warn", kind: "lost", worker: "a", text: "silent" });
  expect(heard).toEqual([1, 2, 3, 4]);
  expect(events.list().map(({ id, worker }) => `${id}${worker}`)).toEqual(["3c", "4d", "5a"]);
  expect(events.list({ after: 3 }).map(({ id }) => id)).toEqual([4, 5]);
  expect(events.list({ sinceMs: 1000 }).map(({ id }) => id)).toEqual([4, 5]);
  expect(events.list({ limit: 1 }).map(({ id }) => id)).toEqual([5]);
  expect(events.list({ after: 5 })).toEqual([]);
  expect(events.list()[0]?.text).toBe("c joined");
  expect(events.last).toBe(5);
});
