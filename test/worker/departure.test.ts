import { expect, test } from "bun:test";
import { SUPERVISOR_DEFAULTS } from "../../src/engine/supervise/settings.ts";
import { LlmnodeError } from "../../src/protocol/errors.ts";
import { silentLog } from "../../src/util/log.ts";
import { awaitDeparture, checkDeparture, leavingTime } from "../../src/worker/departure.ts";
import { WORKER_DEFAULTS, type WorkerOptions } from "../../src/worker/options.ts";
import { startTestHead } from "../helpers/cluster.ts";
import { sim, startTestWorker, tempDir } from "../helpers/worker.ts";

function worker(engine: WorkerOptions["engine"], more: Partial<WorkerOptions> = {}): WorkerOptions {
  return {
    ...{ head: { host: "127.0.0.1", port: 1 }, insecure: true, joinToken: null, name: null },
    ...{ labels: {}, data: "auto", port: null, advertise: null, dataDir: "/", version: "0" },
    ...{ log: silentLog, printLine: () => undefined, env: {}, selfCommand: [] },
    engine,
    ...more,
  };
}

const SETTINGS = { ...WORKER_DEFAULTS, drainTimeoutMs: 1000, leaveMarginMs: 100 };
const LAST = SUPERVISOR_DEFAULTS.interruptTimeoutMs + SUPERVISOR_DEFAULTS.groupStopTimeoutMs;

test("leaving takes as long as requests and this kind of engine may take", () => {
  const takes = (argv: string[], kind: "vllm" | null = null, settings = SETTINGS) =>
    leavingTime(worker({ argv }), settings)(kind);
  expect(takes(["my-server"])).toBe(1100 + 15_000 + LAST);
  expect(takes(["vllm", "serve", "m"])).toBe(1100 + 30_000 + LAST);
  // Behind a script that says nothing: as it turned out to be.
  expect(takes(["./start.sh"], "vllm")).toBe(1100 + 30_000 + LAST);
  expect(takes(["text-generation-launcher"], "vllm")).toBe(1100 + 100_000 + LAST);
  const supervisor = { stopTimeoutMs: 10, interruptTimeoutMs: 20, groupStopTimeoutMs: 30 };
  expect(takes(["vllm", "serve", "m"], null, { ...SETTINGS, supervisor })).toBe(1160);
  const attached = worker({ attach: "http://127.0.0.1:1" });
  expect(leavingTime(attached, SETTINGS)("vllm")).toBe(1100);
});

test("a worker that would have to leave at once does not start", () => {
  const check = (until: number | null) => {
    try {
      checkDeparture(worker({ attach: "http://127.0.0.1:1" }, { until }), SETTINGS);
    } catch (error) {
      return error instanceof LlmnodeError && `${error.code}: ${error.message}`;
    }
    return null;
  };
  expect(check(null)).toBeNull();
  expect(check(Date.now() + 60_000)).toBeNull();
  expect(check(Date.now() + 900)).toMatch(
    /^usage: the time of --until is in 0\.\ds, and leaving takes up to 1\.1s$/,
  );
  expect(check(Date.now() - 900)).toStartWith("usage: the time of --until is in the past, and");
});

test("it is due as early as leaving needs, also when the kind is learnt late", async () => {
  const settings = { ...SETTINGS, untilPollMs: 10 };
  const until = Date.now() + 60_000;
  let kind: "generic" | "tgi" = "generic";
  const options = worker({ argv: ["./start.sh"] }, { until });
  using departure = awaitDeparture(options, settings, () => kind);
  let isDue = false;
  void departure.due.then(() => {
    isDue = true;
  });
  await Bun.sleep(30);
  expect(isDue).toBe(false);
  // It may take 100 s to stop.
  kind = "tgi";
  expect(await departure.due).toBeNull();
});

test("never due without a time, or once it is disposed of", async () => {
  const never = awaitDeparture(worker({ argv: ["x"] }), SETTINGS, () => "generic");
  const until = Date.now() + 1150;
  const attached = worker({ attach: "http://127.0.0.1:1" }, { until });
  const settings = { ...SETTINGS, untilPollMs: 10 };
  const disposed = awaitDeparture(attached, settings, () => "generic");
  disposed[Symbol.dispose]();
  const first = await Promise.race([never.due, disposed.due, Bun.sleep(150).then(() => "none")]);
  expect(first).toBe("none");
  never[Symbol.dispose]();
});

test("a worker whose time is over ends by itself and is gone in time, its last request whole", async () => {
  using dir = tempDir();
  // What comes once nobody is there any more need not wait here.
  await using head = await startTestHead({ cluster: { queueTimeoutMs: 100 } });
  const until = Date.now() + 8000;
  await using started = await startTestWorker(head, dir.path, {
    engine: { argv: sim("--model", "m", "--itl", "50ms") },
    until,
    settings: {
      drainTimeoutMs: 3000,
      leaveMarginMs: 100,
      untilPollMs: 20,
      supervisor: { stopTimeoutMs: 500, interruptTimeoutMs: 500, groupStopTimeoutMs: 500 },
    },
  });
  await head.ready("m");
  // Streams follow each other until no more are let in: the last one runs when the time comes.
  const texts: string[] = [];
  const load = (async () => {
    for (;;) {
      const body = {
        model: "m",
        stream: true,
        max_tokens: 20,
        messages: [{ role: "user", content: "x" }],
      };
      const response = await head.post("/v1/chat/completions", body);
      if (response.status !== 200) return;
      texts.push(await response.text());
    }
  })();
  expect(await started.worker.ended).toBeNull();
  await started.worker.stop();
  await load;
  expect(Date.now()).toBeLessThan(until);
  expect(texts.length).toBeGreaterThan(0);
  for (const text of texts) expect(text).toEndWith("data: [DONE]\n\n");
  expect((await head.status()).workers.map(({ state }) => state)).toEqual(["left"]);
});
