/** The drills: what is done to the cluster while clients ask, and what may come of it. */

import type { Cluster } from "./cluster.ts";
import { codeOf, type Load } from "./client.ts";
import { signalPid } from "./processes.ts";
import { MODEL } from "./stream.ts";

/** Of all engines; no ordinary question comes near it. */
const CRASH_AFTER_TOKENS = 300;
const POISON = "a prompt that kills engines";

/** 100 k tokens a second: an ordinary prompt takes no time, a long one takes seconds. */
export const ENGINE_FLAGS = [
  ...["--ttft", "20ms", "--itl", "10ms", "--prefill-rate", "100000", "--max-model-len", "2000000"],
  ...["--fault", `crash-after=${CRASH_AFTER_TOKENS}`, "--fault", `crash-on-text=${POISON}`],
];

/** Below `CRASH_AFTER_TOKENS` twice: the engine that goes on with it must not die as well. */
const LONG_ANSWER_TOKENS = 500;

const LONG_PROMPT_CHARS = 4_000_000;

/** An engine hears of a client that left within this, whatever it is doing. */
const CANCEL_LIMIT_MS = 2000;

/** What a command has done shows within this. */
const STATE_LIMIT_MS = 2000;

export interface Strike {
  cluster: Cluster;
  load: Load;
  /** Picks as the seed has it. */
  random: () => number;
  /** The fault begins now. */
  mark(): void;
}

export interface Told {
  note: string;
  /** What went wrong beside the load. */
  failures: string[];
  /** When the head was away, on the load's clock. */
  excused?: { from: number; to: number };
}

export interface Drill {
  name: string;
  about: string;
  maxDeaths: number;
  strike(strike: Strike): Promise<Told>;
}

export const DRILLS: readonly Drill[] = [
  {
    name: "worker-killed",
    about: "SIGKILL of a worker and its engine",
    maxDeaths: 1,
    async strike({ cluster, random, mark }) {
      const name = pick(cluster.names, random);
      const engine = await cluster.enginePid(name);
      mark();
      cluster.signalWorker(name, "SIGKILL");
      signalPid(engine, "SIGKILL");
      return told(name);
    },
  },
  {
    name: "worker-stopped",
    about: "SIGSTOP of a worker and its engine for 25 s",
    maxDeaths: 1,
    async strike({ cluster, random, mark }) {
      const name = pick(cluster.names, random);
      const engine = await cluster.enginePid(name);
      mark();
      cluster.signalWorker(name, "SIGSTOP");
      signalPid(engine, "SIGSTOP");
      await Bun.sleep(25_000);
      signalPid(engine, "SIGCONT");
      cluster.signalWorker(name, "SIGCONT");
      return told(name);
    },
  },
  {
    name: "engine-killed",
    about: "SIGKILL of an engine in the middle of its streams",
    maxDeaths: 1,
    async strike({ cluster, random, mark }) {
      const name = pick(cluster.names, random);
      const engine = await cluster.enginePid(name);
      mark();
      signalPid(engine, "SIGKILL");
      return told(name);
    },
  },
  {
    name: "engine-crash",
    about: "an engine dies by itself in the middle of a long answer",
    maxDeaths: 1,
    async strike({ load, random, mark }) {
      mark();
      // Never the same twice: a request that ended two engines is refused for a while.
      const content = `a long answer, number ${random()}`;
      const { kind } = await load.ask({ content, tokens: LONG_ANSWER_TOKENS });
      return told(`the long answer: ${kind}`);
    },
  },
  {
    name: "drain",
    about: "llmnode drain of a worker, then undrain",
    maxDeaths: 0,
    async strike({ cluster, random, mark }) {
      const name = pick(cluster.names, random);
      mark();
      const failures = [];
      for (const [word, wanted] of [
        ["drain", "drained"],
        ["undrain", "ready"],
      ] as const) {
        const { code, output } = await cluster.run(word, name);
        if (code !== 0) failures.push(`llmnode ${word} ${name}: exit ${code}: ${output}`);
        const isSo = () => inState(cluster, { name, wanted });
        if (!(await within(STATE_LIMIT_MS, isSo))) failures.push(`${name} is not ${wanted}`);
      }
      return { note: name, failures };
    },
  },
  {
    name: "head-restart",
    about: "kill -9 of the head, and its start on the same ports",
    maxDeaths: 0,
    async strike({ cluster, load, mark }) {
      mark();
      const from = load.now();
      await cluster.killHead();
      await cluster.startHead();
      const to = load.now();
      const away = `away for ${((to - from) / 1000).toFixed(1)} s`;
      return { note: away, failures: [], excused: { from, to } };
    },
  },
  {
    name: "rolling-restart",
    about: "llmnode restart of all workers, one after the other",
    maxDeaths: 0,
    async strike({ cluster, mark }) {
      const pids = () => Promise.all(cluster.names.map((name) => cluster.enginePid(name)));
      const before = await pids();
      mark();
      const { code, output } = await cluster.run("restart", ...cluster.names, "--yes");
      const failures = code === 0 ? [] : [`llmnode restart: exit ${code}: ${output}`];
      const same = (await pids()).filter((pid) => before.includes(pid)).length;
      if (same > 0) failures.push(`${same} engines were not restarted`);
      return { note: cluster.names.join(" "), failures };
    },
  },
  {
    name: "worker-term",
    about: "SIGTERM of half of the workers at once, and their return",
    maxDeaths: 0,
    async strike({ cluster, mark }) {
      const half = cluster.names.slice(0, Math.floor(cluster.names.length / 2));
      mark();
      for (const name of half) cluster.signalWorker(name, "SIGTERM");
      for (const name of half) {
        await cluster.untilWorkerGone(name);
        cluster.startWorker(name);
      }
      return told(half.join(" "));
    },
  },
  {
    name: "poison",
    about: "a request that kills engines, from a client that tries it three times",
    maxDeaths: 2,
    async strike({ cluster, random, mark }) {
      mark();
      return told(await askLikeSdk(cluster.url, `number ${random()}: ${POISON}`));
    },
  },
  {
    name: "client-leaves",
    about: "a client leaves during a prefill of 10 s",
    maxDeaths: 0,
    async strike({ cluster, mark }) {
      mark();
      const leaver = new AbortController();
      const asked = fetch(`${cluster.url}/v1/completions`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({
          model: MODEL,
          prompt: "x".repeat(LONG_PROMPT_CHARS),
          max_tokens: 1,
        }),
        signal: leaver.signal,
      }).then(
        (response) => `answered with ${response.status}`,
        () => "left",
      );
      const hasIt = () => prefilling(cluster);
      const isThere = await within(5000, hasIt);
      leaver.abort();
      const end = await asked;
      const left = performance.now();
      const isGone = await within(CANCEL_LIMIT_MS, async () => !(await hasIt()));
      const failures = [];
      if (!isThere) failures.push("no engine had the long prompt");
      if (end !== "left") failures.push(`the long prompt was ${end}`);
      if (!isGone) failures.push("the engine went on with it");
      const ms = Math.round(performance.now() - left);
      return { note: `gone from the engine after ${ms} ms`, failures };
    },
  },
];

async function inState(
  cluster: Cluster,
  { name, wanted }: { name: string; wanted: string },
): Promise<boolean> {
  const workers = (await cluster.workers()) ?? [];
  return workers.some((worker) => worker.name === name && worker.state === wanted);
}

function told(note: string): Told {
  return { note, failures: [] };
}

function pick(names: readonly string[], random: () => number): string {
  return names[Math.floor(random() * names.length)] ?? "";
}

/** Official clients try again after 429, 5xx and lost connections, unless told not to. */
async function askLikeSdk(url: string, prompt: string): Promise<string> {
  const met: string[] = [];
  for (let i = 0; i < 3; i++) {
    const response = await fetch(`${url}/v1/completions`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ model: MODEL, prompt, max_tokens: 8 }),
    }).catch(() => null);
    met.push(response === null ? "lost" : `${response.status} ${codeOf(await response.text())}`);
    if (response && (response.status < 429 || response.headers.get("x-should-retry") === "false")) {
      break;
    }
    await Bun.sleep(500 * 2 ** i);
  }
  return met.join(", ");
}

/** Whether an engine holds a prompt so large that it must be the long one. */
async function prefilling(cluster: Cluster): Promise<boolean> {
  const texts = await Promise.all(
    cluster.engineUrls().map(async (engine) => {
      const response = await fetch(`${engine}/metrics`, { signal: AbortSignal.timeout(2000) });
      return response.text();
    }),
  );
  return texts.some((text) => figure(text, "vllm:kv_cache_usage_perc") > 0.5);
}

function figure(text: string, name: string): number {
  const line = text.split("\n").find((one) => one.startsWith(`${name}{`));
  return Number(line?.slice(line.lastIndexOf(" ") + 1) ?? Number.NaN);
}

async function within(limitMs: number, holds: () => Promise<boolean>): Promise<boolean> {
  const deadline = performance.now() + limitMs;
  while (performance.now() < deadline) {
    if (await holds()) return true;
    await Bun.sleep(20);
  }
  return false;
}
