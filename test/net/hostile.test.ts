import { beforeAll, describe, expect, test } from "bun:test";
import { binaryPath } from "../helpers/binary.ts";
import { waitFor } from "../helpers/wait.ts";
import { rawStream, startCluster } from "./cluster.ts";
import { whyNoNamespaces } from "./namespaces.ts";
import { openSlowLine } from "./relay.ts";

const missing = whyNoNamespaces();
if (missing !== null) console.warn(`test/net is skipped: ${missing}`);

/** With outages of up to 40 s in it. */
const TIMEOUT = 110_000;

beforeAll(async () => {
  await binaryPath();
}, 180_000);

describe.skipIf(missing !== null)("networks", () => {
  test.concurrent(
    "a worker behind NAT without a way in serves 300 streams at once",
    async () => {
      await using cluster = await startCluster();
      cluster.join(cluster.network.machineBehindNat("hidden"), { engine: ["--itl", "100ms"] });
      await cluster.ready(1);
      const streams = Array.from({ length: 300 }, () => rawStream(cluster, { max_tokens: 100 }));
      await waitFor(async () => (await cluster.status()).models[0]?.in_flight === 300, {
        what: "300 streams at once",
        timeoutMs: 20_000,
      });
      const answers = await Promise.all(streams);
      expect(answers.filter((text) => !/^HTTP\/1.1 200 [^]*data: \[DONE\]/.test(text))).toEqual([]);
      expect((await cluster.status()).models[0]?.in_flight).toBe(0);
    },
    TIMEOUT,
  );

  test.concurrent(
    "two machines join by one line each and make a cluster",
    async () => {
      await using cluster = await startCluster({ onTerminal: true });
      // The line as it stands there; only the engine is another behind its name.
      const line = /^ +elsewhere +(LLMNODE_TOKEN=\S+ llmnode join .*)$/m.exec(cluster.banner)?.[1];
      const [, model, port] = / -- vllm serve (\S+) --port (\d+)$/.exec(line ?? "") ?? [];
      expect(cluster.banner).toContain(`LLMNODE_TOKEN=${cluster.token} llmnode join`);
      const vllm = `exec llmnode sim --model ${model} --port ${port}`;
      for (const name of ["one", "two"]) {
        cluster.paste(cluster.network.machine(name), line ?? "", { vllm });
      }
      const { workers } = await cluster.ready(2);
      expect(new Set(workers.map(({ name }) => name)).size).toBe(2);
      for (const { name } of workers) {
        const answer = await cluster.ask({ model }, { "x-llmnode-worker": name });
        expect(await answer.text()).toContain("data: [DONE]");
        expect(answer.headers.get("x-llmnode-worker")).toBe(name);
      }
    },
    TIMEOUT,
  );

  test.concurrent(
    "no packet for 2 s: nothing is noticed; for 10 s: stale and back, and streams go on",
    async () => {
      await using cluster = await startCluster();
      const machine = cluster.network.machine("one");
      const worker = cluster.join(machine, { engine: ["--itl", "100ms"] });
      await cluster.ready(1);
      const first = cluster.ask({ max_tokens: 60 });
      await first;
      {
        // The system sends a lost packet again after 0.2, 0.6, 1.4, 3.0 and 6.2 s: what is cut off
        // for 3 s may hear nothing for 6, which is longer than a session bears.
        using _ = cluster.network.cutOff(machine);
        await Bun.sleep(2000);
        expect((await cluster.status()).workers[0]?.state).toBe("ready");
      }
      expect(await (await first).text()).toContain("data: [DONE]");
      expect(worker.output()).not.toContain("lost the head");

      const second = await cluster.ask({ max_tokens: 250 });
      {
        using _ = cluster.network.cutOff(machine);
        await Promise.all([Bun.sleep(10_000), cluster.state("one", "stale", 9000)]);
      }
      await cluster.state("one", "ready");
      expect(await second.text()).toContain("data: [DONE]");
      expect(worker.output()).toContain("lost the head");
      expect((await cluster.status()).workers.length).toBe(1);
      expect(await (await cluster.ask()).text()).toContain("data: [DONE]");
    },
    TIMEOUT,
  );

  test.concurrent(
    "no packet for 40 s: another worker takes over, and the lost one comes back whole",
    async () => {
      await using cluster = await startCluster();
      const machine = cluster.network.machine("far");
      cluster.join(machine, { engine: ["--ttft", "2s", "--itl", "200ms"] });
      cluster.join(cluster.network.machine("near"));
      await cluster.ready(2);
      const running = await cluster.ask({ max_tokens: 5000 }, { "x-llmnode-worker": "far" });
      const fresh = Array.from({ length: 8 }, () => cluster.ask());
      await waitFor(async () => {
        const { workers } = await cluster.status();
        const far = workers.find(({ name }) => name === "far");
        return (far?.engines[0]?.replicas[0]?.in_flight ?? 0) > 1;
      });
      {
        using _ = cluster.network.cutOff(machine);
        const outage = Bun.sleep(40_000);
        for (const answer of await Promise.all(fresh)) {
          expect(answer.headers.get("x-llmnode-worker")).toBe("near");
          expect(await answer.text()).toContain("data: [DONE]");
        }
        await cluster.state("far", "lost", 25_000);
        // What had begun cannot be begun again elsewhere: it ends, and says so.
        expect(await running.text()).toContain('"error"');
        await outage;
      }
      await cluster.state("far", "ready");
      const answer = await cluster.ask({}, { "x-llmnode-worker": "far" });
      expect(await answer.text()).toContain("data: [DONE]");
      const { workers, models } = await cluster.status();
      expect(workers.map(({ name }) => name).sort()).toEqual(["far", "near"]);
      expect([models[0]?.ready, models[0]?.in_flight]).toEqual([2, 0]);
    },
    TIMEOUT,
  );

  test.concurrent(
    "a firewall before the head's port is told of, and tried again until it opens",
    async () => {
      await using cluster = await startCluster();
      const rule = cluster.network.drop(`-p tcp -d ${cluster.head.address} --dport 8093`);
      const worker = cluster.join(cluster.network.machine("one"));
      await worker.waitForLine("is up, Ctrl-C leaves");
      const startedAt = performance.now();
      const told = `cannot reach the head at ${cluster.head.address}:8093: no answer`;
      await worker.waitForLine(told, { timeoutMs: 12_000 });
      // After 5 s, and not when TCP gives up.
      expect(performance.now() - startedAt).toBeLessThan(8000);
      rule[Symbol.dispose]();
      await cluster.ready(1);
    },
    TIMEOUT,
  );

  test.concurrent(
    "over a line of 1 Mbit/s with 100 ms each way",
    async () => {
      await using cluster = await startCluster();
      using line = await openSlowLine({
        from: cluster.network.address,
        to: cluster.head.address,
        ports: [8093, 8094],
        delayMs: 100,
        bitsPerSecond: 1_000_000,
      });
      cluster.join(cluster.network.machine("far"), { address: cluster.network.address });
      await cluster.ready(1);
      const answers = await Promise.all(Array.from({ length: 5 }, () => cluster.ask()));
      for (const answer of answers) expect(await answer.text()).toContain("data: [DONE]");
      expect(line.connections).toBeGreaterThan(1);
      expect((await cluster.status()).workers[0]?.state).toBe("ready");
    },
    TIMEOUT,
  );

  test.concurrent(
    "the head's address changes behind its name, and the worker comes back",
    async () => {
      await using cluster = await startCluster();
      const machine = cluster.network.machine("one");
      machine.hosts(`${cluster.head.address} head.test\n`);
      const worker = cluster.join(machine, { address: "head.test" });
      await cluster.ready(1);
      const moved = cluster.network.renumber(cluster.head);
      machine.hosts(`${moved.address} head.test\n`);
      await worker.waitForLine("lost the head", { timeoutMs: 20_000 });
      await waitFor(() => worker.output().match(/msg=joined/g)?.length === 2, {
        what: "the worker to join again",
        timeoutMs: 60_000,
      });
      await cluster.ready(1);
      const url = `http://${moved.address}:8092/v1/chat/completions`;
      const messages = [{ role: "user", content: "hi" }];
      const body = JSON.stringify({ model: "m", messages, max_tokens: 5 });
      // At once, whatever the runtime remembers of the name: lanes go where the session went.
      const headers = { "content-type": "application/json" };
      for (let i = 0; i < 12; i += 1) {
        const signal = AbortSignal.timeout(15_000);
        const answer = await fetch(url, { method: "POST", headers, body, signal, proxy: "" });
        expect([answer.status, await answer.text()]).toEqual([200, expect.stringContaining("sim")]);
      }
    },
    TIMEOUT,
  );
});
