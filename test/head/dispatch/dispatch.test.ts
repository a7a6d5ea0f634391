import { expect, test } from "bun:test";
import fc from "fast-check";
import { createCatalogReader } from "../../../src/cluster/state/catalog.ts";
import { release, started } from "../../../src/cluster/dispatch/dispatch.ts";
import { tick } from "../../../src/cluster/liveness/liveness.ts";
import { reschedules } from "../../../src/cluster/dispatch/reschedules.ts";
import {
  disconnect,
  goodbye,
  heard,
  reportEngine,
  setRoute,
} from "../../../src/cluster/state/registry.ts";
import { reportLoads } from "../../../src/cluster/state/load.ts";
import { createRouter } from "../../../src/cluster/routing/routing.ts";
import type { Lease } from "../../../src/cluster/state/state.ts";
import type { LeaseOutcome } from "../../../src/protocol/replica-request.ts";
import { createDeaths } from "../../../src/head/dispatch/deaths.ts";
import { createWaiting } from "../../../src/head/dispatch/waiting.ts";
import { LlmnodeError } from "../../../src/protocol/errors.ts";
import {
  addWorker,
  cluster,
  giveBack,
  hello,
  report,
  setModels,
  T0,
  tryJoin,
  request,
} from "../../cluster/fixtures.ts";
import { FAST, fakeWorker, memoryLog, startTestHead } from "../../helpers/cluster.ts";
import { startRawEngine } from "../../helpers/engine.ts";

const OUTCOMES: LeaseOutcome[] = [
  "ok",
  "rejected",
  "busy",
  "auth",
  "bad_gateway",
  "engine_error",
  "unreachable",
  "broken",
  "rescheduled",
  "slow_client",
  "client_gone",
];

/** One thing that can happen; numbers pick among what is there. */
const happening = fc.record({
  kind: fc.constantFrom(
    ...["ask", "ask", "ask", "ask", "ask", "release", "release", "start", "leaveQueue"],
    ...[
      "join",
      "rejoin",
      "cut",
      "leave",
      "hear",
      "crash",
      "ready",
      "stop",
      "load",
      "pass",
      "endAll",
    ],
  ),
  pick: fc.nat(8000),
});

type Ending = "lease" | "refused";

test("whatever happens in whatever order, every request is settled once and nothing is left", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(happening, { minLength: 40, maxLength: 160 }), async (happenings) => {
      const state = cluster({
        forgetAfterMs: 20_000,
        maxInFlight: 3,
        maxWaiting: 5,
        maxWaitingBytes: 2000,
        queueTimeoutMs: 5000,
      });
      const catalog = createCatalogReader(state);
      const router = createRouter();
      let now = T0;
      let run = 0;
      const waiting = createWaiting({
        context: () => ({ state, catalog: catalog(), router }),
        now: () => now,
        random: Math.random,
      });
      const leases: Lease[] = [];
      const asked: { controller: AbortController; endings: Ending[] }[] = [];
      const of = <T>(list: readonly T[], pick: number) => list[pick % Math.max(1, list.length)];
      const giveOne = (lease: Lease, pick: number) => {
        const end = { promptTokens: null, cachedTokens: null, retryAfterMs: pick % 3000, now };
        const outcome = of(OUTCOMES, pick) ?? "ok";
        release({ state, router }, lease, { outcome, ...end });
        waiting.wake();
      };
      const ask = (pick: number) => {
        const one = { controller: new AbortController(), endings: [] as Ending[] };
        asked.push(one);
        const { signal } = one.controller;
        const wanted = request(pick % 7 === 0 ? "n" : "m", {
          caller: `p${pick % 3}`,
          bodyBytes: pick % 700,
          bodyHash: `h${pick % 4}`,
          fallbacks: pick % 5 === 0 ? ["m"] : [],
        });
        const got = new Promise<Lease>((resolve) => resolve(waiting.lease(wanted, signal)));
        void got.then(
          (lease) => {
            one.endings.push("lease");
            if (signal.aborted) giveOne(lease, 10);
            else leases.push(lease);
          },
          (error: unknown) => {
            expect(error).toBeInstanceOf(LlmnodeError);
            one.endings.push("refused");
          },
        );
      };
      const check = () => {
        let inFlight = 0;
        for (const worker of state.workers.values()) {
          expect(worker.inFlight).toBeGreaterThanOrEqual(0);
          inFlight += worker.inFlight;
          for (const engine of worker.engines.values()) {
            expect(engine.inFlight).toBeGreaterThanOrEqual(0);
            expect(engine.inFlight).toBeLessThanOrEqual(3);
            expect(engine.pendingTokens).toBeGreaterThanOrEqual(0);
          }
        }
        expect(inFlight).toBeLessThanOrEqual(state.leases.size);
        for (const group of state.queue.groups.values()) {
          expect(group.size).toBeLessThanOrEqual(5);
          expect(group.bytes).toBeGreaterThanOrEqual(0);
        }
      };
      for (const { kind, pick } of happenings) {
        run += 1;
        const worker = of([...state.workers.values()], pick);
        const lease = of(leases, pick);
        if (kind === "ask") ask(pick);
        else if (kind === "release" && lease) giveOne(lease, pick);
        else if (kind === "start" && lease) started({ state, router }, lease, now);
        else if (kind === "leaveQueue") of(asked, pick)?.controller.abort();
        else if (kind === "join" && state.workers.size < 5)
          addWorker(state, `w${run}x`, { models: pick % 2 ? ["m"] : ["m", "n"], now });
        else if (kind === "rejoin" && worker) {
          const sameRun = pick % 2 === 0;
          const who = { workerId: worker.id, name: worker.name, epoch: worker.epoch + 1 };
          tryJoin(state, hello("x", { ...who, run: sameRun ? worker.run : `r${run}` }), now);
        } else if (kind === "cut" && worker) disconnect(state, worker);
        else if (kind === "leave" && worker)
          goodbye(state, worker, { left: pick % 2 === 0, reason: "", deadlineMs: 0 });
        else if (kind === "hear" && worker) heard(worker, now);
        else if ((kind === "crash" || kind === "stop") && worker) {
          const known = worker.engines.get("1");
          const to = kind === "crash" ? "BACKOFF" : "STOPPING";
          const said = report({
            run: known?.report.run ?? `e${run}`,
            state: to,
            expectedModels: ["m"],
          });
          reportEngine(state, { worker, report: said }, now);
        } else if (kind === "ready" && worker) {
          const said = report({ run: pick % 3 ? `e${run}` : "same", pid: 1 + (pick % 2) });
          const change = reportEngine(state, { worker, report: said }, now);
          if (change) setRoute(state, change.engine, { via: "direct", url: "http://x" });
          setModels(state, worker, { models: ["m"], now });
        } else if (kind === "load" && worker) {
          const load = {
            engine: "1",
            sampleAgeMs: 0,
            waiting: pick % 10,
            kvUsage: (pick % 11) / 10,
          };
          reportLoads(worker, [load], now);
        } else if (kind === "pass") {
          for (const end = now + pick; now < end;) {
            now = Math.min(end, now + 250);
            tick(state, now);
            for (const { lease } of reschedules({ state, catalog: catalog() }, now)) {
              if (pick % 3 > 0) giveOne(lease, 8);
            }
            waiting.tick();
          }
        } else if (kind === "endAll" && pick % 20 === 0) {
          waiting.endAll(() => new LlmnodeError("shutting_down", "stopping"));
        }
        waiting.wake();
        await Promise.resolve();
        await Promise.resolve();
        check();
      }
      waiting.endAll(() => new LlmnodeError("shutting_down", "stopping"));
      for (let i = 0; i < 5; i += 1) await Promise.resolve();
      for (const lease of leases) giveOne(lease, 0);
      await Promise.resolve();
      for (const { endings } of asked) expect(endings.length).toBe(1);
      expect([state.leases.size, state.queue.size, state.queue.groups.size]).toEqual([0, 0, 0]);
      for (const { inFlight, engines } of state.workers.values()) {
        expect(inFlight).toBe(0);
        for (const engine of engines.values()) {
          expect([engine.inFlight, engine.pendingTokens]).toEqual([0, 0]);
        }
      }
    }),
    { numRuns: 150 },
  );
});

function granted(state: ReturnType<typeof cluster>): Lease {
  const catalog = createCatalogReader(state);
  const waiting = createWaiting({
    context: () => ({ state, catalog: catalog(), router: createRouter() }),
    now: () => T0,
    random: () => 0,
  });
  const lease = waiting.lease(request("m"), new AbortController().signal);
  if (lease instanceof Promise) throw new Error("it waits");
  return lease;
}

function running(diedWithinMs = 30_000) {
  const state = cluster({ diedWithinMs });
  const { worker, engine } = addWorker(state, "a", { models: ["m"] });
  const say = (state_: string, more = {}) =>
    reportEngine(
      state,
      {
        worker,
        report: report({ run: engine.report.run, pid: 7, state: state_ as "READY", ...more }),
      },
      T0,
    );
  say("READY");
  return { state, worker, engine, say, deaths: createDeaths({ state, log: memoryLog().log }) };
}

test("whether an engine died is known at once where its worker has said so", async () => {
  const { state, say, deaths } = running();
  const lease = granted(state);
  say("BACKOFF", { pid: 0 });
  expect(await deaths.died(lease)).toBe(true);
});

test("and else as soon as it says so, or not at all in time", async () => {
  const late = running();
  const lease = granted(late.state);
  const dying = late.deaths.died(lease);
  late.deaths.poll();
  late.say("BACKOFF", { pid: 0 });
  late.deaths.poll();
  expect(await dying).toBe(true);
  const never = running(20);
  expect(await never.deaths.died(granted(never.state))).toBe(false);
});

test("an engine that was stopped, or whose worker has gone, has not died of a request", async () => {
  const stopped = running();
  const lease = granted(stopped.state);
  stopped.say("STOPPING");
  expect(await stopped.deaths.died(lease)).toBe(false);
  const gone = running();
  const orphan = granted(gone.state);
  gone.worker.left = true;
  expect(await gone.deaths.died(orphan)).toBe(false);
  const attached = running();
  attached.say("READY", { pid: 0 });
  expect(await attached.deaths.died(granted(attached.state))).toBe(false);
});

test("nobody is kept asking when the head stops", async () => {
  const { state, deaths } = running();
  const lease = granted(state);
  const dying = deaths.died(lease);
  deaths[Symbol.dispose]();
  expect(await dying).toBe(false);
  giveBack(state, lease);
});

test("a request that ends engines is refused after the second, and the log tells", async () => {
  const settings = { ...FAST, cluster: { ...FAST.cluster, queueTimeoutMs: 10_000 } };
  await using head = await startTestHead(settings);
  await using stack = new AsyncDisposableStack();
  let deaths = 0;
  for (let i = 0; i < 4; i += 1) {
    const engine = stack.use(
      startRawEngine((socket) => {
        deaths += 1;
        worker.report({ port: engine.port, pid: 0, state: "BACKOFF" });
        socket.reset();
      }),
    );
    const worker = stack.use(fakeWorker(head, { models: ["m"], port: engine.port }));
    worker.report({ port: engine.port, pid: 100 + i });
  }
  await head.ready("m", 4);
  const ask = () => head.post("/v1/chat/completions", { model: "m", messages: [] });
  for (let i = 0; i < 3; i += 1) {
    const answer = await ask();
    const { error } = (await answer.json()) as { error: { code: string } };
    expect([answer.status, error.code]).toEqual([502, "engine_crashed"]);
    expect(answer.headers.get("x-should-retry")).toBe("false");
  }
  // A connection that broke is tried once more on the same engine.
  expect(deaths).toBeLessThanOrEqual(4);
  const said = head.lines.filter((line) =>
    line.includes("a request that crashes engines is refused"),
  );
  expect(said.length).toBe(1);
});
