import { expect, test } from "bun:test";
import fc from "fast-check";
import { createCatalogReader } from "../../../src/cluster/state/catalog.ts";
import { acquire, release, started } from "../../../src/cluster/dispatch/dispatch.ts";
import { POLICIES, type Policy } from "../../../src/cluster/routing/policies.ts";
import { createRouter, type RouterOptions } from "../../../src/cluster/routing/routing.ts";
import type { Engine, Lease } from "../../../src/cluster/state/state.ts";
import type {
  LeaseEnd,
  PromptFacts,
  ReplicaRequest,
} from "../../../src/protocol/replica-request.ts";
import { addWorker, cluster, T0, request } from "../fixtures.ts";

/** A prompt whose text is the words; every word is 4000 bytes, and a boundary. */
function prompt(words: string): PromptFacts {
  const pieces = words.split(" ");
  const hashes = new Uint32Array(pieces.length * 2);
  let chained = 0n;
  for (const [i, piece] of pieces.entries()) {
    chained = Bun.hash.wyhash(piece, chained);
    hashes[i * 2] = Number(chained >> 32n);
    hashes[i * 2 + 1] = Number(chained & 0xffffffffn);
  }
  const ends = Uint32Array.from(pieces, (_, i) => (i + 1) * 4000);
  return { bytes: pieces.length * 4000, hashes, ends, maxTokens: null };
}

/** A fleet with the model `m`, whose clock and dice the test holds. */
function fleet(names: readonly string[], options: RouterOptions = {}) {
  const state = cluster();
  const engines = new Map<string, Engine>();
  for (const name of names) {
    const { engine } = addWorker(state, name, { models: ["m"] });
    engines.set(name, engine);
  }
  const catalog = createCatalogReader(state);
  const router = createRouter({ index: { slots: 1024 }, ...options });
  const context = () => ({ state, catalog: catalog(), router });
  const at = { now: T0, random: Math.random };
  const ask = (more: Partial<ReplicaRequest> = {}): Lease => {
    const grant = acquire(context(), request("m", { stream: true, ...more }), at);
    if (!grant.granted) throw new Error(grant.message);
    return grant.lease;
  };
  return {
    state,
    at,
    router,
    ask,
    engine: (name: string) => engines.get(name) as Engine,
    start: (lease: Lease) => started(context(), lease, at.now),
    end(lease: Lease, more: Partial<LeaseEnd> = {}) {
      const end: LeaseEnd = { ...ENDED, ...more };
      release(context(), lease, { ...end, now: at.now });
    },
    /** The whole of a request; gives the worker's name. */
    serve(more: Partial<ReplicaRequest> = {}, end: Partial<LeaseEnd> = {}): string {
      const lease = ask(more);
      this.start(lease);
      this.end(lease, end);
      return lease.workerName;
    },
  };
}

const ENDED = {
  outcome: "ok",
  promptTokens: null,
  cachedTokens: null,
  retryAfterMs: null,
} as const;

const NAMES = ["a", "b", "c", "d"];
const many = (n: number) => Array.from({ length: n }, (_, i) => `w${String(i).padStart(4, "0")}`);

function tally(names: readonly string[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const name of names) counts[name] = (counts[name] ?? 0) + 1;
  return counts;
}

test("a prompt goes where its beginning is, and where it went before", () => {
  const { serve } = bound(fleet(NAMES));
  const first = serve({ prompt: prompt("sys one") });
  for (const next of ["sys one two", "sys one two three", "sys one"]) {
    expect(serve({ prompt: prompt(next) })).toBe(first);
  }
});

function bound(made: ReturnType<typeof fleet>) {
  return { ...made, serve: made.serve.bind(made) };
}

test("a burst of siblings sticks together before any of them has come back", () => {
  const { ask } = fleet(NAMES);
  const long = "sys sys sys sys";
  const names = many(5).map((name) => ask({ prompt: prompt(`${long} ${name}`) }).workerName);
  expect(Object.keys(tally(names)).length).toBe(1);
});

test("a hot worker is avoided although it has the prompt, and the counters say so", () => {
  const { ask, engine, serve, router } = bound(fleet(NAMES));
  const hot = serve({ prompt: prompt("sys one") });
  engine(hot).inFlight += 200;
  expect(ask({ prompt: prompt("sys one") }).workerName).not.toBe(hot);
  engine(hot).inFlight -= 200;
  expect(router.affinity().get("m")).toEqual({ hit: 0, miss: 1, overridden: 1 });
});

test("load that others bring counts like our own", () => {
  const foreign = new Map([["worker-a/1", 500]]);
  const { ask } = fleet(["a", "b"], { foreignLoad: ({ key }) => foreign.get(key) ?? 0 });
  expect(tally(many(20).map(() => ask().workerName))).toEqual({ b: 20 });
});

test("a prompt that is being read keeps others away until its first byte", () => {
  const { ask, start, end, engine } = fleet(["a", "b"]);
  const long = ask({ prompt: prompt(many(60).join(" ")) });
  const other = long.workerName === "a" ? "b" : "a";
  expect(engine(long.workerName).pendingTokens).toBe(60_000);
  for (let i = 0; i < 5; i += 1) expect(ask().workerName).toBe(other);
  start(long);
  expect(engine(long.workerName).pendingTokens).toBe(0);
  expect(ask().workerName).toBe(long.workerName);
  end(long);
  end(long);
  expect(engine(long.workerName).pendingTokens).toBe(0);
});

test("one prompt that all share does not make one worker the only one", () => {
  const { ask, start, end } = fleet(many(8));
  const running: Lease[] = [];
  const names: string[] = [];
  for (let i = 0; i < 2000; i += 1) {
    const lease = ask({ prompt: prompt(`shared shared shared own${i}`) });
    start(lease);
    running.push(lease);
    names.push(lease.workerName);
    const oldest = running.length > 160 ? running.shift() : undefined;
    if (oldest) end(oldest);
  }
  const counts = Object.values(tally(names));
  expect(counts.length).toBe(8);
  expect(Math.max(...counts)).toBeLessThan((2000 / 8) * 3);
});

test("replicas that are alike are picked at random, not in an order", () => {
  const { serve } = bound(fleet(NAMES, { policy: "least-load" }));
  const counts = Object.values(tally(many(2000).map(() => serve())));
  expect(counts.length).toBe(4);
  expect(Math.max(...counts)).toBeLessThan(650);
  expect(Math.min(...counts)).toBeGreaterThan(350);
});

test("a replica that fails at once attracts no prompts by having been sent them", () => {
  const { ask, end } = fleet(NAMES);
  const failed = ask({ prompt: prompt("sys one") });
  end(failed, { outcome: "broken" });
  // Nobody is known to have it: it goes anywhere.
  const names = many(40).map(() => {
    const lease = ask({ prompt: prompt("sys one"), exclude: [] });
    end(lease, { outcome: "engine_error" });
    return lease.workerName;
  });
  expect(Object.keys(tally(names)).length).toBeGreaterThan(2);
});

test("a failure takes away only what it was to bring, not what was there before", () => {
  const { ask, end, serve } = bound(fleet(NAMES));
  const home = serve({ prompt: prompt("sys one") });
  const next = ask({ prompt: prompt("sys one two") });
  expect(next.workerName).toBe(home);
  end(next, { outcome: "client_gone" });
  const again = ask({ prompt: prompt("sys one two") });
  expect([again.workerName, again.promptTokens, again.missTokens]).toEqual([home, 3000, 1000]);
});

test("a new run of an engine begins with an empty cache", () => {
  const { ask, serve, engine } = bound(fleet(NAMES));
  const home = serve({ prompt: prompt("sys one") });
  engine(home).report.run = "another";
  expect(ask({ prompt: prompt("sys one") }).missTokens).toBe(2000);
});

test("what was sent too long ago is not looked for", () => {
  const { ask, serve, at } = bound(fleet(NAMES));
  serve({ prompt: prompt("sys one") });
  at.now += 599_000;
  expect(ask({ prompt: prompt("sys one") }).missTokens).toBe(0);
  at.now += 601_000;
  expect(ask({ prompt: prompt("sys one") }).missTokens).toBe(2000);
});

test("a cache that never has what it should is not counted on, until it shows that it works", () => {
  const { ask, serve } = bound(fleet(["a"]));
  const end = { promptTokens: 2000, cachedTokens: 0 };
  expect(ask({ prompt: prompt("sys one") }).missTokens).toBe(2000);
  for (let i = 0; i < 15; i += 1) serve({ prompt: prompt("sys one") }, end);
  // One that was evicted for once is no proof.
  expect(ask({ prompt: prompt("sys one") }).missTokens).toBe(0);
  serve({ prompt: prompt("sys one") }, end);
  expect(ask({ prompt: prompt("sys one") }).missTokens).toBe(2000);
  serve({ prompt: prompt("sys one") }, { promptTokens: 2000, cachedTokens: 1500 });
  expect(ask({ prompt: prompt("sys one") }).missTokens).toBe(0);
});

test("tokens are counted by what engines say that bytes came to", () => {
  const { ask, serve } = bound(fleet(["a"]));
  expect(ask({ prompt: prompt("one two") }).promptTokens).toBe(2000);
  for (let i = 0; i < 60; i += 1) {
    serve({ prompt: prompt(`x${i} y`) }, { promptTokens: 4000, cachedTokens: 0 });
  }
  expect(ask({ prompt: prompt("one two") }).promptTokens).toBeWithin(3900, 4001);
});

test("a slow engine gets less, once it is known to be slow", () => {
  const { ask, start, end, at } = fleet(["fast", "slow"]);
  for (let i = 0; i < 30; i += 1) {
    for (const name of ["fast", "slow"]) {
      const lease = ask({ prompt: prompt(`${name}${i} a b c`), worker: name });
      at.now += name === "slow" ? 4000 : 400;
      start(lease);
      end(lease);
    }
  }
  const names = many(300).map((name) => ask({ prompt: prompt(`${name} a b c`) }).workerName);
  const counts = tally(names);
  expect(counts["slow"] ?? 0).toBeWithin(1, (counts["fast"] ?? 0) / 2);
});

test("the time to a first byte that comes with the end teaches nothing of speed", () => {
  const { ask, start, end, at } = fleet(["a", "b"]);
  for (let i = 0; i < 30; i += 1) {
    const lease = ask({ prompt: prompt(`${i} a b c`), worker: "a", stream: false });
    at.now += 60_000;
    start(lease);
    end(lease);
  }
  const counts = tally(many(200).map((name) => ask({ prompt: prompt(name) }).workerName));
  expect(counts["a"]).toBeGreaterThan(80);
});

test("a model that is loaded is preferred; one that is being loaded is waited for", () => {
  const { ask, start, end, state, at } = fleet(["a", "b", "c"]);
  const load = (name: string, loaded: boolean | null) => {
    const engine = state.workers.get(`worker-${name}`)?.engines.get("1") as Engine;
    engine.models = engine.models.map((card) => ({ ...card, loaded }));
    state.revision += 1;
  };
  for (const name of ["a", "b"]) load(name, false);
  load("c", true);
  for (let i = 0; i < 20; i += 1) expect(ask().workerName).toBe("c");
  load("c", false);
  const first = ask({ prompt: prompt("x") });
  at.now += 5000;
  // Twenty more in a row would be cheaper elsewhere, were it not for a load there.
  expect(many(20).map((name) => ask({ prompt: prompt(name) }).workerName)).toEqual(
    many(20).map(() => first.workerName),
  );
  start(first);
  end(first);
});

test("of a thousand replicas the one that has the prompt is found", () => {
  const { ask, serve } = bound(fleet(many(1000)));
  const home = serve({ prompt: prompt("sys one two three") });
  for (let i = 0; i < 5; i += 1) {
    const lease = ask({ prompt: prompt("sys one two three") });
    expect([lease.workerName, lease.missTokens]).toEqual([home, 0]);
  }
});

test("of a thousand replicas without the prompt all get their share", () => {
  const { ask } = fleet(many(200));
  const names = many(1000).map((name) => ask({ prompt: prompt(name) }).workerName);
  const counts = Object.values(tally(names));
  expect(counts.length).toBeGreaterThan(190);
  expect(Math.max(...counts)).toBeLessThan(15);
});

test("round robin goes round, however often the catalog is built anew and whoever comes back", () => {
  const { serve, state } = bound(fleet(NAMES, { policy: "round-robin" }));
  const names: string[] = [];
  for (let i = 0; i < 40; i += 1) {
    names.push(serve());
    // A heartbeat moves a worker to another place of the list.
    const [id, worker] = [...state.workers][i % 3] ?? [];
    if (id !== undefined && worker) {
      state.workers.delete(id);
      state.workers.set(id, worker);
    }
    state.revision += 1;
  }
  expect(tally(names)).toEqual({ a: 10, b: 10, c: 10, d: 10 });
  for (let i = 0; i < 40; i += 4) expect(new Set(names.slice(i, i + 4)).size).toBe(4);
});

test("power of two takes the less loaded of two, never the most loaded of all", () => {
  const { ask, engine } = fleet(NAMES, { policy: "power-of-two" });
  engine("a").inFlight = 1000;
  const counts = tally(many(200).map(() => ask().workerName));
  expect(counts["a"]).toBeUndefined();
  expect(Object.keys(counts).length).toBe(3);
});

test("random takes any, whatever they have to do", () => {
  const { ask, engine } = fleet(NAMES, { policy: "random" });
  engine("a").inFlight = 100;
  const counts = tally(many(400).map(() => ask().workerName));
  expect(Math.min(...Object.values(counts))).toBeGreaterThan(50);
  expect(Object.keys(counts).length).toBe(4);
});

test("a sticky session stays when others come, and spills over when its place is too full", () => {
  const { serve, state, engine } = bound(fleet(NAMES, { policy: "sticky" }));
  const homes = new Map(many(50).map((session) => [session, serve({ session })]));
  expect(new Set(homes.values()).size).toBe(4);
  for (const [session, home] of homes) expect(serve({ session })).toBe(home);
  addWorker(state, "e", { models: ["m"] });
  const moved = [...homes].filter(([session, home]) => serve({ session }) !== home);
  for (const [session] of moved) expect(serve({ session })).toBe("e");
  expect(moved.length).toBeLessThan(25);
  const [session = "", home = ""] = homes.entries().next().value ?? [];
  if (home !== "e") engine(home).inFlight = 100;
  expect(serve({ session })).not.toBe(home);
});

test("a sticky session never lets one replica have much more than its share", () => {
  const { ask } = fleet(NAMES, { policy: "sticky" });
  const counts = tally(many(400).map(() => ask({ session: "one" }).workerName));
  expect(Math.max(...Object.values(counts))).toBeLessThanOrEqual(126);
});

test("models have policies of their own by name and pattern, the last that fits", () => {
  const rules = [
    { pattern: "Qwen/*", policy: "random" },
    { pattern: "*-8B", policy: "least-load" },
  ] as const;
  const router = createRouter({ policy: "auto", rules, index: { slots: 8 } });
  const uses = ["Llama", "Qwen/x", "Qwen/3-8B"].map((model) => router.usesPrefixes(model));
  expect(uses).toEqual([true, false, false]);
});

test.each([...POLICIES])("%s explains itself in one line, with names and no address", (policy) => {
  const { ask } = fleet(NAMES, { policy });
  expect(ask({ prompt: prompt("x") }).explanation).toBeNull();
  const line = ask({ prompt: prompt("x y"), explain: true }).explanation ?? "";
  expect(line).toMatch(new RegExp(`^${policy}: [a-d]/1 of (4|2)`));
  expect(line).not.toMatch(/http|10\.0\.0|\n/);
});

test("an explanation has the parts of the score, of eight candidates at most", () => {
  const { ask, serve } = bound(fleet(many(20)));
  const home = serve({ prompt: prompt("sys one") });
  const line = ask({ prompt: prompt("sys one two"), explain: true }).explanation ?? "";
  expect(line).toStartWith(`auto: ${home}/1 of 20; ${home}/1 0.067s = pending 0.000 + miss 0.067`);
  expect(line).toContain("hit 2000/3000 tokens, 15000 tokens/s");
  expect(line.match(/pending/g)?.length).toBe(8);
  expect(line).toEndWith("; 12 more");
});

test.each([...POLICIES])("%s: without candidates there is no choice", (policy) => {
  const router = createRouter({ policy, index: { slots: 8 } });
  const at = { now: T0, random: Math.random };
  expect(router.choose([], request("m", { session: "s" }), at)).toBeNull();
});

test("whatever happens, an engine at rest owes nothing, under every policy", () => {
  const step = fc.record({
    do: fc.constantFrom("ask", "start", "end", "restart"),
    which: fc.nat(20),
    words: fc.array(fc.constantFrom("a", "b", "c"), { minLength: 1, maxLength: 4 }),
    outcome: fc.constantFrom("ok", "busy", "broken", "client_gone", "rejected" as const),
    counts: fc.option(fc.record({ prompt: fc.nat(5000), cached: fc.nat(6000) })),
    passMs: fc.nat(30_000),
  });
  const check = (
    policy: Policy,
    steps: (typeof step extends fc.Arbitrary<infer S> ? S : never)[],
  ) => {
    const { ask, start, end, engine, at } = fleet(["a", "b"], { policy });
    const open: Lease[] = [];
    for (const { do: what, which, words, outcome, counts, passMs } of steps) {
      at.now += passMs;
      const lease = open[which % Math.max(1, open.length)];
      if (what === "ask") {
        const session = which % 2 === 0 ? `s${which}` : null;
        const grant = tryAsk(() => ask({ prompt: prompt(words.join(" ")), session }));
        if (grant) open.push(grant);
      } else if (what === "restart")
        engine(which % 2 === 0 ? "a" : "b").report.run = `run-${at.now}`;
      else if (lease && what === "start") start(lease);
      else if (lease) {
        open.splice(open.indexOf(lease), 1);
        const told = { promptTokens: counts?.prompt ?? null, cachedTokens: counts?.cached ?? null };
        end(lease, { outcome, ...told });
      }
      for (const name of ["a", "b"]) {
        expect(engine(name).pendingTokens).toBeGreaterThanOrEqual(0);
        expect(engine(name).inFlight).toBeGreaterThanOrEqual(0);
      }
    }
    for (const lease of open) end(lease);
    for (const name of ["a", "b"]) {
      expect([engine(name).pendingTokens, engine(name).inFlight]).toEqual([0, 0]);
    }
  };
  fc.assert(fc.property(fc.constantFrom(...POLICIES), fc.array(step, { maxLength: 60 }), check), {
    numRuns: 100,
  });
});

/** None where all have said lately that they have no room. */
function tryAsk(ask: () => Lease): Lease | null {
  try {
    return ask();
  } catch {
    return null;
  }
}
