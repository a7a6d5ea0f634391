import { describe as group, expect, test } from "bun:test";
import fc from "fast-check";
import {
  describe,
  PHASES,
  transition,
  type EngineCondition,
  type EngineEvent,
  type EngineProgress,
} from "../../src/engine/state.ts";

const STARTING: EngineCondition = { state: "starting", progress: null, reason: null };
const READY: EngineCondition = { state: "ready", failures: 0 };
const missed: EngineEvent = { type: "missed", reason: "refused", limit: 3 };
const after = (start: EngineCondition, ...events: EngineEvent[]) =>
  events.reduce(transition, start);

group("health", () => {
  test("only failures in a row count", () => {
    expect(after(READY, missed, missed).state).toBe("ready");
    expect(after(READY, missed, missed, { type: "answered" }, missed, missed).state).toBe("ready");
    const unhealthy = after(READY, missed, missed, missed);
    expect(unhealthy).toEqual({ state: "unhealthy", reason: "refused" });
    expect(after(unhealthy, { type: "answered" })).toEqual(READY);
  });
  test("an engine that starts cannot be unhealthy", () => {
    expect(after(STARTING, missed, missed, missed)).toEqual(STARTING);
  });
  test("waiting tells why, and no longer once that has passed", () => {
    const told = after(STARTING, { type: "waiting", reason: "401" });
    expect(describe(told)).toEqual({ state: "starting", phase: null, reason: "401" });
    expect(after(told, { type: "waiting", reason: null })).toEqual(STARTING);
    expect(after(READY, { type: "waiting", reason: "401" })).toEqual(READY);
  });
});

group("a download that is only seen by its growth", () => {
  const at = (phase: EngineProgress["phase"], more: Partial<EngineProgress> = {}): EngineEvent => ({
    type: "progressed",
    progress: { phase, percent: null, ...more },
  });
  const phase = (...events: EngineEvent[]) =>
    describe(after(STARTING, { type: "spawned" }, ...events)).phase;
  const GIB = 1024 ** 3;

  test("shows its size, which only grows", () => {
    expect(phase(at("download", { bytes: GIB }))).toBe("download 1.0 GiB");
    expect(phase(at("download"), at("download", { bytes: GIB }))).toBe("download 1.0 GiB");
    const less = at("download", { bytes: GIB / 2 });
    expect(phase(at("download", { bytes: GIB }), less)).toBe("download 1.0 GiB");
  });
  test("gives way to a percentage", () => {
    const events = [at("download", { bytes: GIB }), at("download", { percent: 5 })];
    expect(phase(...events)).toBe("download 5%");
    expect(phase(...events, at("download", { bytes: 2 * GIB }))).toBe("download 5%");
  });
  test("may come after the word that the model is being loaded, not after its progress", () => {
    const grows = at("download", { bytes: GIB });
    expect(phase(at("load"), grows)).toBe("download 1.0 GiB");
    expect(phase(at("load"), grows, at("load", { percent: 0 }))).toBe("load 0%");
    expect(phase(at("load", { percent: 0 }), grows)).toBe("load 0%");
    expect(phase(at("compile"), grows)).toBe("compile");
  });
});

group("ends", () => {
  test("a crash waits, a new process starts anew", () => {
    const backoff = after(READY, { type: "crashed", reason: "exited with code 1" });
    expect(backoff).toEqual({ state: "backoff", reason: "exited with code 1" });
    expect(after(backoff, { type: "answered" })).toEqual(backoff);
    expect(describe(after(backoff, { type: "spawned" })).phase).toBe("spawn");
  });
  test("what was given up stays so", () => {
    const failed = after(
      READY,
      { type: "gave_up", reason: "pid 1" },
      { type: "crashed", reason: "x" },
    );
    expect(failed).toEqual({ state: "failed", reason: "pid 1" });
  });
});

const event: fc.Arbitrary<EngineEvent> = fc.oneof(
  fc.constant<EngineEvent>({ type: "spawned" }),
  fc.constant<EngineEvent>({ type: "answered" }),
  fc.constant<EngineEvent>(missed),
  fc.constant<EngineEvent>({ type: "waiting", reason: "w" }),
  fc.constant<EngineEvent>({ type: "crashed", reason: "c" }),
  fc.constant<EngineEvent>({ type: "gave_up", reason: "g" }),
  fc.record({
    type: fc.constant("progressed" as const),
    progress: fc.record({
      phase: fc.constantFrom(...PHASES),
      percent: fc.option(fc.nat(100), { nil: null }),
    }),
  }),
);

test("after a stop was asked for, nothing but its end follows", () => {
  fc.assert(
    fc.property(fc.array(event), fc.array(event), (before, later) => {
      const stopping = after(STARTING, ...before, { type: "stop_asked" }, ...later);
      expect(stopping).toEqual({ state: "stopping" });
      const stopped = after(stopping, { type: "ended", reason: null }, ...later);
      expect(stopped).toEqual({ state: "stopped", reason: null });
    }),
  );
});

test("phases never go back within a start", () => {
  fc.assert(
    fc.property(fc.array(event), (events) => {
      let now: EngineCondition = STARTING;
      for (const next of events) {
        const then = transition(now, next);
        if (next.type !== "spawned" && now.state === "starting" && then.state === "starting") {
          const rank = (condition: typeof now) =>
            condition.state === "starting" && condition.progress
              ? PHASES.indexOf(condition.progress.phase) * 1000 + (condition.progress.percent ?? -1)
              : -2;
          expect(rank(then)).toBeGreaterThanOrEqual(rank(now));
        }
        now = then;
      }
    }),
  );
});
