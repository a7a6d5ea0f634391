/** The routing benchmark with real processes at true speed: a head, workers, simulated engines. */

import { mkdirSync } from "node:fs";
import { join } from "node:path";
import type { Policy } from "../../../src/cluster/routing/policies.ts";
import { onStage, type Stage, say } from "../lane/stage.ts";
import { seeded } from "./workloads.ts";

export interface RealOptions {
  policies: readonly Policy[];
  /** How long requests are sent. */
  seconds: number;
  seed: number;
  /** The llmnode to measure; null: of this tree. */
  binary: string | null;
}

/** Prompts that begin alike in groups; without a cache they are twice what the engines can read. */
const REAL = {
  engines: 4,
  prefillTokensPerS: 4000,
  kvTokens: 80_000,
  tenants: 24,
  sharedTokens: 6000,
  ownTokens: 200,
  outTokens: 40,
  requestsPerS: 5,
};

export const REAL_NAME =
  `real processes: ${REAL.engines} engines, ${REAL.tenants} tenants with ` +
  `${REAL.sharedTokens} tokens each, ${REAL.requestsPerS} requests/s`;

const MODEL = "sim";
/** The simulated engine's. */
const BYTES_PER_TOKEN = 4;
const READY_LIMIT_MS = 60_000;
const ANSWER_LIMIT_MS = 300_000;

export interface RealResult {
  policy: Policy;
  ttftS: number[];
  hitRate: number;
  /** Requests of the engine that got the most, by the mean. */
  imbalance: number;
}

/** Rejects when a process ends by itself or an answer is none. */
export async function runReal(options: RealOptions, signal: AbortSignal): Promise<RealResult[]> {
  const results: RealResult[] = [];
  await onStage({ binary: options.binary, signal }, async (stage) => {
    for (const policy of options.policies) {
      say(`${policy} with real processes: sending for ${options.seconds} s`);
      results.push(await runPolicy(stage, policy, options));
    }
  });
  return results;
}

async function runPolicy(
  stage: Stage,
  policy: Policy,
  { seconds, seed }: RealOptions,
): Promise<RealResult> {
  const random = seeded(seed);
  const field = await startField(stage, policy);
  const answers: Promise<Answer>[] = [];
  const begun = performance.now();
  for (let at = 0; ;) {
    at -= (Math.log(1 - random()) / REAL.requestsPerS) * 1000;
    if (at > seconds * 1000) break;
    const body = bodyOf(Math.floor(random() * REAL.tenants), answers.length);
    await Bun.sleep(Math.max(0, begun + at - performance.now()));
    answers.push(ask(field.url, body));
  }
  const done = await Promise.all(answers);
  await field.stop();
  const sum = (of: (answer: Answer) => number) => done.reduce((total, one) => total + of(one), 0);
  const counts = new Map<string, number>();
  for (const { worker } of done) counts.set(worker, (counts.get(worker) ?? 0) + 1);
  return {
    policy,
    ttftS: done.map(({ ttftS }) => ttftS),
    hitRate: sum((answer) => answer.cachedTokens) / sum((answer) => answer.promptTokens),
    imbalance: Math.max(...counts.values()) / (done.length / REAL.engines),
  };
}

interface Answer {
  ttftS: number;
  worker: string;
  promptTokens: number;
  cachedTokens: number;
}

async function ask(url: string, body: string): Promise<Answer> {
  const begun = performance.now();
  const response = await fetch(`${url}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body,
    proxy: false,
    signal: AbortSignal.timeout(ANSWER_LIMIT_MS),
  });
  const reader = response.body?.getReader();
  if (!response.ok || !reader) throw new Error(`${response.status} ${await response.text()}`);
  const decoder = new TextDecoder();
  let ttftS: number | null = null;
  let end = "";
  for (let next = await reader.read(); !next.done; next = await reader.read()) {
    end = (end + decoder.decode(next.value, { stream: true })).slice(-2000);
    // Comments in silence are no token.
    if (end.includes("data:")) ttftS ??= (performance.now() - begun) / 1000;
  }
  if (ttftS === null || !end.includes("[DONE]")) throw new Error(`no whole answer: ${end}`);
  const figure = (name: string) => Number(new RegExp(`"${name}": ?(\\d+)`).exec(end)?.[1] ?? 0);
  return {
    ttftS,
    worker: response.headers.get("x-llmnode-worker") ?? "",
    promptTokens: figure("prompt_tokens"),
    cachedTokens: figure("cached_tokens"),
  };
}

function bodyOf(tenant: number, request: number): string {
  const text = (seed: string, tokens: number) =>
    `${seed} `.repeat(Math.ceil((tokens * BYTES_PER_TOKEN) / (seed.length + 1)));
  return JSON.stringify({
    model: MODEL,
    stream: true,
    stream_options: { include_usage: true },
    max_tokens: REAL.outTokens,
    messages: [
      { role: "system", content: text(`tenant ${tenant}`, REAL.sharedTokens) },
      { role: "user", content: text(`request ${request}`, REAL.ownTokens) },
    ],
  });
}

async function startField({ children, workplace, binary }: Stage, policy: Policy) {
  const dir = join(workplace, policy);
  mkdirSync(dir, { recursive: true });
  const env = { LLMNODE_DATA: dir };
  const head = children.start({
    name: `head of ${policy}`,
    argv: [
      ...[binary, "head", "--listen", "127.0.0.1:0", "--session-listen", "127.0.0.1:0"],
      ...["--lane-listen", "127.0.0.1:0", "--log-format", "logfmt", "--no-request-log"],
      ...["--routing", policy],
    ],
    place: "relay",
    cwd: dir,
    env,
  });
  const [, url = "", sessions = ""] = await head.line(/msg="head is up" url=(\S+) sessions=(\S+)/);
  const workers = Array.from({ length: REAL.engines }, (_, i) =>
    children.start({
      name: `worker ${i} of ${policy}`,
      argv: [
        ...[binary, "join", sessions, "--log-format", "logfmt", "--name", `engine-${i}`],
        ...["--", binary, "sim", "--model", MODEL, "--port", "0", "--itl", "5ms"],
        ...["--prefill-rate", String(REAL.prefillTokensPerS)],
        ...["--kv-tokens", String(REAL.kvTokens)],
      ],
      place: "rest",
      cwd: dir,
      env,
    }),
  );
  const deadline = performance.now() + READY_LIMIT_MS;
  while ((await readyReplicas(url)) < REAL.engines) {
    if (performance.now() > deadline) throw new Error("the engines are not ready in time");
    await Bun.sleep(100);
  }
  return {
    url,
    async stop() {
      await Promise.all(workers.map((worker) => worker.stop()));
      await head.stop();
    },
  };
}

async function readyReplicas(url: string): Promise<number> {
  const response = await fetch(`${url}/api/v1/status`, { proxy: false });
  const { models } = (await response.json()) as { models: { name: string; ready: number }[] };
  return models.find(({ name }) => name === MODEL)?.ready ?? 0;
}
