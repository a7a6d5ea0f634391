import { expect, test } from "bun:test";
import type { Generation } from "../../src/engine/ask/generation-probe.ts";
import type { EngineStatus } from "../../src/engine/status.ts";
import type { VitalSigns } from "../../src/engine/supervise/vital-signs.ts";
import {
  createExaminer,
  type Examiner,
  type ExaminerOptions,
  type ExamineSettings,
} from "../../src/worker/examine.ts";
import { memoryLog } from "../helpers/cluster.ts";
import { waitFor } from "../helpers/wait.ts";

const QUICK: ExamineSettings = {
  inspectMs: 10,
  idleMs: 100,
  idleShare: 0.1,
  generationTimeoutMs: 1000,
  generationEveryMs: 30,
  generationsUntilDead: 3,
  failingMs: 90,
  lapseMs: 5000,
};

interface Engine {
  run: string;
  kind: EngineStatus["kind"];
  signs: VitalSigns | null;
  /** Processor time that it uses between two looks. */
  works: number;
  gpu: number | null;
  token: () => Generation;
  looks: number;
  asks: number;
}

interface Bench extends AsyncDisposable {
  engine: Engine;
  examiner: Examiner;
  stalled: string[];
  lines: string[];
}

/** An engine that does nothing and gives no token. */
function bench(engine: Partial<Engine> = {}, more: Partial<ExaminerOptions> = {}): Bench {
  const it: Engine = {
    run: "run",
    kind: "vllm",
    signs: { stopped: null, cpuMs: 1000, processes: 2, isReading: false },
    works: 0,
    gpu: null,
    token: () => ({ outcome: "failed", reason: "no answer" }),
    looks: 0,
    asks: 0,
    ...engine,
  };
  const stalled: string[] = [];
  const { log, lines } = memoryLog();
  const examiner = createExaminer({
    status: () => ({ run: it.run, kind: it.kind }) as EngineStatus,
    async vitalSigns() {
      it.looks += 1;
      if (it.signs?.cpuMs != null) it.signs.cpuMs += it.works;
      return it.signs && { ...it.signs };
    },
    async generate() {
      it.asks += 1;
      return it.token();
    },
    gpuPercent: () => it.gpu,
    markStalled: (reason) => void stalled.push(reason),
    restart: "auto",
    log,
    ...more,
    settings: { ...QUICK, ...more.settings },
  });
  return {
    engine: it,
    examiner,
    stalled,
    lines,
    [Symbol.asyncDispose]: () => examiner[Symbol.asyncDispose](),
  };
}

const SUSPECT = { engine: "1", look: true, ask: true };
const NEVER_IDLE = { settings: { idleMs: 1e9 } };
const NEVER_FAILS = { settings: { failingMs: 1e9 } };
const STOPPED = { stopped: "its process 7 is stopped", cpuMs: 0, processes: 1, isReading: false };

test("a stopped process is dead at once, also where it was only to be looked at", async () => {
  for (const ask of [true, false]) {
    await using on = bench({ signs: { ...STOPPED } });
    on.examiner.examine({ engine: "1", look: true, ask });
    await waitFor(() => on.stalled.length > 0);
    expect(on.stalled).toEqual(["its process 7 is stopped"]);
    expect(on.engine.looks).toBe(1);
  }
});

test("it is given up once, however often the head says it again", async () => {
  await using on = bench({ signs: { ...STOPPED } });
  on.examiner.examine(SUSPECT);
  await waitFor(() => on.engine.looks > 3);
  on.examiner.examine(SUSPECT);
  await waitFor(() => on.engine.looks > 6);
  expect(on.stalled).toHaveLength(1);
});

test("nothing done for a while is death, of a suspect only", async () => {
  await using on = bench({}, NEVER_FAILS);
  on.examiner.examine({ engine: "1", look: true, ask: false });
  await waitFor(() => on.engine.looks > 20);
  expect(on.stalled).toEqual([]);
  on.examiner.examine(SUSPECT);
  await waitFor(() => on.stalled.length > 0);
  expect(on.stalled[0]).toContain("its processes have done nothing for");
});

test.each<[string, Partial<Engine>]>([
  ["a compile pause uses the processor", { works: 10 }],
  ["a GPU works", { gpu: 3 }],
  [
    "a process waits for its disk",
    { signs: { stopped: null, cpuMs: 0, processes: 1, isReading: true } },
  ],
  [
    "the engine is not to be seen from here",
    { signs: { stopped: null, cpuMs: null, processes: 1, isReading: false } },
  ],
  ["it is no engine of a known kind", { kind: "generic" }],
])("no evidence: %s", async (_, engine) => {
  await using on = bench(engine, NEVER_FAILS);
  on.examiner.examine(SUSPECT);
  await waitFor(() => on.engine.looks > 30);
  expect(on.stalled).toEqual([]);
});

test("an idle GPU confirms it", async () => {
  await using on = bench({ gpu: 0 }, NEVER_FAILS);
  on.examiner.examine(SUSPECT);
  await waitFor(() => on.stalled.length > 0);
});

test("three tokens in a row that do not come, over long enough, are death", async () => {
  await using on = bench({}, NEVER_IDLE);
  on.examiner.examine(SUSPECT);
  expect(on.examiner.failedGenerations()).toBeNull();
  await waitFor(() => on.stalled.length > 0);
  expect(on.engine.asks).toBeGreaterThanOrEqual(3);
  expect(on.stalled[0]).toMatch(/^\d requests for one token failed in a row \(no answer\)$/);
  expect(on.examiner.failedGenerations()).toBeGreaterThanOrEqual(3);
});

test("failures that were quick are not enough; before the suspicion they only count", async () => {
  await using quick = bench(
    {},
    { settings: { idleMs: 1e9, failingMs: 1e9, generationEveryMs: 5 } },
  );
  quick.examiner.examine(SUSPECT);
  await waitFor(() => quick.engine.asks > 10);
  expect(quick.stalled).toEqual([]);
  await using early = bench({}, NEVER_IDLE);
  early.examiner.examine({ engine: "1", look: false, ask: true });
  await waitFor(() => early.engine.asks > 6);
  expect(early.stalled).toEqual([]);
  expect(early.engine.looks).toBe(0);
  // They count once it is suspect.
  early.examiner.examine(SUSPECT);
  await waitFor(() => early.stalled.length > 0);
});

test("a token in between starts the count anew; a refusal says nothing", async () => {
  let turn = 0;
  await using on = bench(
    {
      token() {
        turn += 1;
        return turn % 3 === 0 ? { outcome: "token" } : { outcome: "failed", reason: "no answer" };
      },
    },
    NEVER_IDLE,
  );
  on.examiner.examine(SUSPECT);
  await waitFor(() => on.examiner.failedGenerations() === 0);
  await waitFor(() => on.engine.asks > 9);
  expect(on.stalled).toEqual([]);
  await using refused = bench({ token: () => ({ outcome: "unknown", reason: "401" }) }, NEVER_IDLE);
  refused.examiner.examine(SUSPECT);
  await waitFor(() => refused.engine.asks > 6);
  expect(refused.examiner.failedGenerations()).toBeNull();
  expect(refused.stalled).toEqual([]);
});

test("an engine that others run is asked for tokens, and never given up", async () => {
  await using on = bench({ signs: null });
  on.examiner.examine(SUSPECT);
  await waitFor(() => (on.examiner.failedGenerations() ?? 0) > 6);
  expect(on.stalled).toEqual([]);
});

test("--stall-restart: off never, on for any kind; the evidence is told all the same", async () => {
  await using off = bench({ signs: { ...STOPPED } }, { restart: "off" });
  off.examiner.examine(SUSPECT);
  await waitFor(() => off.lines.some((line) => line.includes("its process 7 is stopped")));
  await waitFor(() => off.engine.looks > 5);
  expect(off.stalled).toEqual([]);
  await using on = bench({ kind: "generic" }, { restart: "on", ...NEVER_FAILS });
  on.examiner.examine(SUSPECT);
  await waitFor(() => on.stalled.length > 0);
  // A stopped process is sure for any kind.
  await using stopped = bench({ kind: "generic", signs: { ...STOPPED } });
  stopped.examiner.examine(SUSPECT);
  await waitFor(() => stopped.stalled.length > 0);
});

test("it ends with the head's word, with its silence, and with the engine's run", async () => {
  const ends: ((on: Bench) => void)[] = [
    (on) => on.examiner.examine({ engine: "1", look: false, ask: false }),
    () => undefined,
    (on) => {
      on.engine.run = "next";
    },
  ];
  for (const end of ends) {
    await using on = bench({ works: 50 }, { settings: { failingMs: 1e9, lapseMs: 100 } });
    on.examiner.examine(SUSPECT);
    await waitFor(() => on.examiner.failedGenerations() !== null);
    end(on);
    await waitFor(() => on.examiner.failedGenerations() === null);
    await Bun.sleep(30);
    const { looks, asks } = on.engine;
    await Bun.sleep(60);
    expect(on.engine).toMatchObject({ looks, asks });
  }
});

test("what is asked at its end does not keep the worker", async () => {
  const on = bench(
    {},
    {
      generate: (_, signal) =>
        new Promise((_, reject) => {
          signal.addEventListener("abort", () => reject(new Error("aborted")), { once: true });
        }),
    },
  );
  on.examiner.examine(SUSPECT);
  await on[Symbol.asyncDispose]();
  expect(on.lines.filter((line) => line.includes("level=error"))).toEqual([]);
});
