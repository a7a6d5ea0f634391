import { expect, test } from "bun:test";
import type { LoadSample } from "../../src/engine/ask/load.ts";
import { createLoadReport } from "../../src/worker/report.ts";
import { FAST, startTestHead } from "../helpers/cluster.ts";
import { waitFor } from "../helpers/wait.ts";
import { sim, startTestWorker, tempDir } from "../helpers/worker.ts";

test("figures are said when they change, again after a while, and anew to a new session", async () => {
  let sample: LoadSample | null = null;
  let failed: number | null = null;
  const report = createLoadReport({
    engine: "1",
    latest: () => sample,
    failedGenerations: () => failed,
    repeatMs: 50,
  });
  expect(report.next()).toEqual([]);
  sample = { load: { running: 1, kvUsage: 0.5 }, flow: null, ageMs: 10 };
  expect(report.next()).toEqual([{ engine: "1", running: 1, kvUsage: 0.5, sampleAgeMs: 10 }]);
  sample = { load: { running: 1, kvUsage: 0.5 }, flow: null, ageMs: 20 };
  expect(report.next()).toEqual([]);
  sample = { load: { running: 2, kvUsage: 0.5 }, flow: 7, ageMs: 5 };
  expect(report.next()).toMatchObject([{ running: 2, flow: 7, sampleAgeMs: 5 }]);
  await Bun.sleep(60);
  expect(report.next()).toMatchObject([{ running: 2 }]);
  expect(report.next()).toEqual([]);
  report.forget();
  expect(report.next()).toMatchObject([{ running: 2 }]);
  // What is not known is not said, so that it grows old at the head.
  sample = null;
  report.forget();
  expect(report.next()).toEqual([]);
  // An engine without figures has those of an examination.
  failed = 1;
  expect(report.next()).toEqual([{ engine: "1", failedGenerations: 1, sampleAgeMs: 0 }]);
  expect(report.next()).toEqual([]);
  failed = 2;
  expect(report.next()).toMatchObject([{ failedGenerations: 2 }]);
});

test.each(["direct", "lane"] as const)(
  "an engine's load and limit reach the head's status and metrics (%s)",
  async (data) => {
    using dir = tempDir();
    await using head = await startTestHead(FAST);
    const engine = { argv: sim("--model", "m", "--itl", "10s") };
    await using worker = await startTestWorker(head, dir.path, {
      engine,
      data,
      maxInFlight: 7,
      settings: { supervisor: { startProbeMs: 50, logPollMs: 20, load: { everyMs: 30 } } },
    });
    expect(worker.worker.name).not.toBe("");
    await head.ready("m");
    const read = async () => (await head.status()).workers[0]?.engines[0];
    await waitFor(async () => (await read())?.running === 0);
    const stop = new AbortController();
    const body = {
      model: "m",
      stream: true,
      messages: [{ role: "user", content: "hi" }],
    };
    const stream = await head.post("/v1/chat/completions", body, { signal: stop.signal });
    expect(stream.status).toBe(200);
    await waitFor(async () => (await read())?.running === 1);
    const shown = await read();
    expect(shown).toMatchObject({ max_in_flight: 7, queue: 0 });
    expect(shown?.load_age_ms).toBeLessThan(5000);
    stop.abort();
    // Held until here: an answer that nobody holds is collected, and its request ends with it.
    await stream.text().catch(() => "left");
    await waitFor(async () => (await read())?.running === 0);
  },
);
