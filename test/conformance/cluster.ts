/** A head with engines behind it, for the lines of the conformance table. */

import { readFileSync } from "node:fs";
import path from "node:path";
import type { HeadSettings } from "../../src/head/options.ts";
import { JOIN_TOKEN_FILE } from "../../src/protocol/head-files.ts";
import { directUpstream } from "../helpers/upstream.ts";
import { SIM_DEFAULTS, startSim, type SimOptions } from "../../src/sim/sim.ts";
import { binaryPath } from "../helpers/binary.ts";
import {
  FAST,
  type FakeWorker,
  fakeWorker,
  startTestHead,
  type TestHead,
  operatorOf,
} from "../helpers/cluster.ts";
import { laneWorker, type Link, link } from "../helpers/lanes.ts";
import { spawnProcess, type TestProcess } from "../helpers/process.ts";
import { tempDir } from "../helpers/temp.ts";
import { waitFor } from "../helpers/wait.ts";
import { type Front, startFront } from "../proxy/front.ts";

/** An engine that runs already; each gets a worker of its own. */
export interface EngineAt {
  port: number;
  /** Default: `m`. */
  models?: readonly string[];
  /** Default: vllm. */
  kind?: string;
}

export interface ClusterSetup {
  engines: readonly EngineAt[];
  /** The compiled binary as a process of its own, with these flags; else a head in this process. */
  binary?: readonly string[];
  /** For a head in this process: what no flag sets, at a tenth of the real times. */
  settings?: Partial<HeadSettings>;
}

export interface Cluster extends AsyncDisposable {
  readonly url: string;
  readonly port: number;
  /** The head, where it is a process of its own. */
  readonly process: TestProcess | null;
  /** What the head in this process has logged. */
  readonly lines: readonly string[];
  /** The headers of operators' requests. */
  readonly operator: Record<string, string>;
  post(path: string, body: unknown, init?: RequestInit): Promise<Response>;
  /** Requests that hold a replica, of all models. */
  inFlight(): Promise<number>;
  /** Waits until no request holds a replica. */
  idle(): Promise<void>;
}

/** The way from the head to the engines; nothing else in a line depends on it. */
export interface Transport {
  readonly name: string;
  start(setup: ClusterSetup): Promise<Cluster>;
  /** The proxy alone with engines by port, which shows what it records. */
  front(ports: readonly number[]): Promise<Front>;
}

/** Plain HTTP from the head to each engine. */
export const DIRECT: Transport = {
  name: "direct",
  start: (setup) => startCluster(setup, async (head, engine) => fakeWorker(head, engine)),
  async front(ports) {
    return startFront({
      upstreams: ports.map((port) => directUpstream(`http://127.0.0.1:${port}`)),
    });
  },
};

/** Over connections that the worker has opened to the head. */
export const LANE: Transport = {
  name: "lane",
  start: (setup) => startCluster(setup, laneWorker),
  async front(ports) {
    await using stack = new AsyncDisposableStack();
    const links: Link[] = [];
    for (const port of ports) links.push(stack.use(await link(port)));
    const upstreams = links.map(({ pool }) => pool.upstream("1"));
    const front = stack.use(startFront({ upstreams }));
    const rest = stack.move();
    return Object.assign(Object.create(front) as Front, {
      [Symbol.asyncDispose]: () => rest.disposeAsync(),
    });
  },
};

export const TRANSPORTS: readonly Transport[] = [DIRECT, LANE];

type StartWorker = (
  head: TestHead,
  engine: { port: number; models: string[] },
) => Promise<FakeWorker>;

async function startCluster(setup: ClusterSetup, start: StartWorker): Promise<Cluster> {
  await using stack = new AsyncDisposableStack();
  const { head, child } = setup.binary ? await binaryHead(setup.binary) : await ownHead(setup);
  stack.use(head);
  const wanted = new Map<string, number>();
  for (const engine of setup.engines) {
    const models = [...(engine.models ?? ["m"])];
    const worker = stack.use(await start(head, { port: engine.port, models }));
    if (engine.kind !== undefined) worker.report({ kind: engine.kind, port: engine.port });
    for (const model of models) wanted.set(model, (wanted.get(model) ?? 0) + 1);
  }
  for (const [model, count] of wanted) await head.ready(model, count);
  return clusterOf(head, child, stack.move());
}

async function ownHead({ settings }: ClusterSetup) {
  return { head: await startTestHead({ ...FAST, ...settings }), child: null };
}

/** The compiled head in the form that fake workers dial. */
async function binaryHead(flags: readonly string[]) {
  const settings = Object.keys(process.env).filter((key) => /^(LLMNODE|BUN)_/.test(key));
  const data = tempDir();
  const child = spawnProcess(
    [
      await binaryPath(),
      ...["head", "--listen", "127.0.0.1:0", "--session-listen", "127.0.0.1:0"],
      // Fake workers speak plainly.
      ...["--insecure", "--data-dir", data.path],
      // Nobody is on the way back to a head that is new.
      ...["--settle-time", "0"],
      ...flags,
    ],
    { env: Object.fromEntries(settings.map((key) => [key, undefined])) },
  );
  const [, url = "", host = "", port = ""] = await child.waitForLine(
    /msg="head is up" url=(\S+) sessions=(\S+):(\d+)/,
    { timeoutMs: 30_000 },
  );
  const end = async () => {
    await child[Symbol.asyncDispose]();
    data[Symbol.dispose]();
  };
  const joinToken = readFileSync(path.join(data.path, JOIN_TOKEN_FILE), "utf8");
  const status: TestHead["status"] = async () =>
    (await (await fetch(`${url}/api/v1/status`)).json()) as Awaited<ReturnType<TestHead["status"]>>;
  const head: TestHead = {
    head: {
      id: "",
      url,
      name: null,
      sessionAddress: { host, port: Number(port) },
      adminUrl: null,
      joinToken: () => joinToken,
      reloadTls: () => Promise.resolve(),
      stop: end,
      [Symbol.asyncDispose]: end,
    },
    url,
    lines: [],
    dataDir: data.path,
    operator: operatorOf(data.path),
    status,
    post: (path, body, init) => post(url + path, body, init),
    ready: (model, count = 1) => readyAt(status, model, count),
    [Symbol.asyncDispose]: end,
  };
  return { head, child };
}

async function readyAt(status: TestHead["status"], model: string, count: number): Promise<void> {
  const what = `${count} ready replicas of ${model}`;
  await waitFor(
    async () => (await status()).models.find(({ name }) => name === model)?.ready === count,
    { what },
  );
}

function clusterOf(
  head: TestHead,
  child: TestProcess | null,
  stack: AsyncDisposableStack,
): Cluster {
  const inFlight = async () =>
    (await head.status()).workers
      .flatMap(({ engines }) => engines)
      .reduce((sum, engine) => sum + (engine.replicas[0]?.in_flight ?? 0), 0);
  return {
    url: head.url,
    port: Number(new URL(head.url).port),
    process: child,
    lines: head.lines,
    operator: head.operator,
    post: (path, body, init) => post(head.url + path, body, init),
    inFlight,
    async idle() {
      await waitFor(async () => (await inFlight()) === 0, { what: "no request in flight" });
    },
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}

function post(url: string, body: unknown, init: RequestInit = {}): Promise<Response> {
  return fetch(url, {
    method: "POST",
    body: typeof body === "string" ? body : JSON.stringify(body),
    ...init,
    headers: { "content-type": "application/json", ...(init.headers as Record<string, string>) },
  });
}

/** A simulated engine in this process, without delays unless told otherwise. */
export function startSimulated(options: Partial<SimOptions> = {}) {
  const quick = { ...SIM_DEFAULTS, models: ["m"], port: 0, ttftMs: 0, itlMs: 0 };
  return startSim({ ...quick, print: () => {}, ...options });
}

/** The shortest chat request. */
export function chat(extra: object = {}): Record<string, unknown> {
  return { model: "m", messages: [{ role: "user", content: "hi" }], ...extra };
}

export const CHAT = "/v1/chat/completions";
