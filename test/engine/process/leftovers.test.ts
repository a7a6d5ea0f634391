import { expect, test } from "bun:test";
import {
  describeHolders,
  type Holder,
  waitForRelease,
} from "../../../src/engine/process/leftovers.ts";
import { freePort } from "../../helpers/free-port.ts";
import { startEngine, fixture, until } from "../harness.ts";

const holder = (more: Partial<Holder> = {}): Holder => ({
  pid: 4711,
  name: "vllm",
  state: "D",
  port: null,
  gpus: [],
  ...more,
});
const GIB = 2 ** 30;

test.each([
  [[], null],
  [[holder()], "the engine has not ended: pid 4711 (vllm) in state D: GPU or driver hang"],
  [
    [holder({ port: 8000, gpus: [{ gpu: "GPU-1", memoryBytes: 12 * GIB }] })],
    "the engine has not ended: pid 4711 (vllm) in state D: GPU or driver hang; " +
      "holds port 8000, 12.0 GiB on GPU GPU-1",
  ],
  [
    [holder({ state: null, gpus: [{ gpu: "0", memoryBytes: null }] })],
    "the engine has not ended: pid 4711 (vllm) has ended, its GPU memory is not released: " +
      "GPU or driver hang; holds memory on GPU 0",
  ],
  [
    [holder({ state: "S", name: null })],
    "the engine has not ended: pid 4711 in state S: does not end, another user's?",
  ],
  [
    [holder({ state: "t" })],
    "the engine has not ended: pid 4711 (vllm) in state t: held by a debugger?",
  ],
  [
    [holder({ pid: null, name: null, state: null, port: 80 })],
    "the engine has not ended: a process that cannot be seen from here; holds port 80",
  ],
] satisfies [Holder[], string | null][])("what is left in words: %#", (holders, words) => {
  expect(describeHolders(holders)).toBe(words);
});

test("three are named, the rest is counted", () => {
  const many = [1, 2, 3, 4, 5].map((pid) => holder({ pid, state: "R", name: "x" }));
  const words = describeHolders(many) ?? "";
  expect(words).toContain("pid 3 (x)");
  expect(words).not.toContain("pid 4");
  expect(words).toEndWith(", and 2 others");
});

const looking = {
  processes: [],
  engineId: "none",
  seen: new Set([1000001]),
  address: null,
  computeProcesses: () => Promise.resolve(null),
  timeoutMs: 5_000,
  pollMs: 10,
  connectTimeoutMs: 500,
};

test("memory on a GPU is waited for, by the numbers of the engine's own processes", async () => {
  let looks = 0;
  const computeProcesses = () => {
    looks += 1;
    const others = [{ pid: 7, gpu: "GPU-1", memoryBytes: GIB }];
    const ours = [{ pid: 1000001, gpu: "GPU-1", memoryBytes: GIB }];
    return Promise.resolve(looks < 3 ? [...others, ...ours] : others);
  };
  expect(await waitForRelease({ ...looking, computeProcesses })).toEqual([]);
  expect(looks).toBe(3);
});

test("memory that stays is told with what holds it", async () => {
  const stuck = [{ pid: 1000001, gpu: "GPU-1", memoryBytes: 2 * GIB }];
  const computeProcesses = () => Promise.resolve(stuck);
  const held = await waitForRelease({ ...looking, computeProcesses, timeoutMs: 30 });
  expect(held).toEqual([
    {
      pid: 1000001,
      name: null,
      state: null,
      port: null,
      gpus: [{ gpu: "GPU-1", memoryBytes: 2 * GIB }],
    },
  ]);
});

test("a port that a stranger took meanwhile is not waited for", async () => {
  using server = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: () => new Response("") });
  const address = { host: "127.0.0.1", port: server.port ?? 0 };
  expect(await waitForRelease({ ...looking, address })).toEqual([]);
});

test("a port that a process of the engine still has is told", async () => {
  using server = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: () => new Response("") });
  const address = { host: "127.0.0.1", port: server.port ?? 0 };
  const seen = new Set([process.pid]);
  const [held] = await waitForRelease({ ...looking, seen, address, timeoutMs: 30 });
  expect(held).toMatchObject({ pid: process.pid, port: address.port });
});

test("forced, nobody waits and no tool is asked", async () => {
  let looks = 0;
  const computeProcesses = () => {
    looks += 1;
    return Promise.resolve([{ pid: 1000001, gpu: "GPU-1", memoryBytes: GIB }]);
  };
  const force = AbortSignal.abort();
  expect(await waitForRelease({ ...looking, computeProcesses, force })).toEqual([]);
  expect(looks).toBe(0);
});

test("an engine whose GPU memory stays is failed, and never started over it", async () => {
  let seen = 0;
  const computeProcesses = () =>
    Promise.resolve([{ pid: seen, gpu: "GPU-1", memoryBytes: 12 * GIB }]);
  await using engine = await startEngine(
    { argv: fixture("server", "--announce", "--port", String(freePort())) },
    { computeProcesses, settings: { killTimeoutMs: 100, backoffFirstMs: 1 } },
  );
  const { pid } = await engine.reaches("ready");
  seen = pid ?? 0;
  process.kill(seen, "SIGKILL");
  const failed = await engine.reaches("failed");
  expect(failed.reason).toBe(
    `the engine has not ended: pid ${seen} has ended, its GPU memory is not released: ` +
      "GPU or driver hang; holds 12.0 GiB on GPU GPU-1",
  );
  expect(failed.restarts).toBe(0);
  seen = 0;
  await engine.supervisor.stop();
  expect(engine.supervisor.status()).toMatchObject({ state: "stopped", reason: null });
  await until(() => engine.changes.at(-1)?.state === "stopped", "the last word");
});
