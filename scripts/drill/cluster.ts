/** The cluster of a drill: a head, workers with simulated engines, and what can be done to them. */

import { readFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import type { Processes, Started } from "./processes.ts";
import { MODEL } from "./stream.ts";

export interface ClusterOptions {
  workers: number;
  /** What runs llmnode: a binary, or bun and the program. */
  program: readonly string[];
  root: string;
  /** For state and logs; its own. */
  folder: string;
  /** Of each engine. */
  engineFlags: readonly string[];
  signal: AbortSignal;
}

export interface EngineView {
  pid: number | null;
  state: string;
}

export interface WorkerView {
  name: string;
  state: string;
  engines: EngineView[];
}

export interface Cluster {
  readonly url: string;
  readonly names: readonly string[];
  headPid(): number;
  workerPid(name: string): number;
  /** What the head says of its workers; null while it does not answer. */
  workers(): Promise<WorkerView[] | null>;
  enginePid(name: string): Promise<number>;
  /** Where each engine listens, as its last start says. */
  engineUrls(): string[];
  /** Signals the worker's own process. */
  signalWorker(name: string, signal: NodeJS.Signals): void;
  untilWorkerGone(name: string): Promise<void>;
  startWorker(name: string): void;
  killHead(): Promise<void>;
  /** On the same ports and data; resolves when it is ready. */
  startHead(): Promise<void>;
  /** A command of llmnode, against this head. */
  run(...words: string[]): Promise<{ code: number; output: string }>;
  /** Starts again what has gone and waits until all workers are ready. */
  heal(): Promise<void>;
  /** Ends of engines that no worker had asked for, so far. */
  deaths(): number;
}

const READY_LIMIT_MS = 120_000;
const COMMAND_LIMIT_MS = 120_000;
const POLL_MS = 100;
const TAIL_LINES = 10;

export async function startCluster(
  processes: Processes,
  { workers: count, program, root, folder, engineFlags, signal }: ClusterOptions,
): Promise<Cluster> {
  const [client, session, lane] = await freePorts(3);
  const url = `http://127.0.0.1:${client}`;
  const names = Array.from({ length: count }, (_, i) => `w${i + 1}`);
  const data = ["--data-dir", join(folder, "data"), "--log-format", "logfmt"];
  const started = new Map<string, Started>();

  const startHeadProcess = () =>
    processes.start(
      "head",
      [
        ...[...program, "head", "--listen", `127.0.0.1:${client}`, "--public", "metrics"],
        ...["--session-listen", `127.0.0.1:${session}`, "--lane-listen", `127.0.0.1:${lane}`],
        ...data,
      ],
      { cwd: root, logFile: join(folder, "head.log") },
    );
  let head = startHeadProcess();

  const startWorker = (name: string) => {
    // Both transports are drilled at once.
    const transport = names.indexOf(name) % 2 === 0 ? "direct" : "lane";
    const argv = [
      ...[
        ...program,
        "join",
        `127.0.0.1:${session}`,
        "--name",
        name,
        "--transport",
        transport,
        ...data,
      ],
      ...["--", ...program, "sim", "--model", MODEL, "--port", "0", ...engineFlags],
    ];
    started.set(name, processes.start(name, argv, { cwd: root, logFile: logOf(name) }));
  };
  const logOf = (name: string) => join(folder, `${name}.log`);
  const workerOf = (name: string): Started => {
    const found = started.get(name);
    if (!found) throw new Error(`no worker ${name}`);
    return found;
  };

  const until = async (what: string, holds: () => boolean | Promise<boolean>) => {
    const deadline = performance.now() + READY_LIMIT_MS;
    while (!(await holds())) {
      signal.throwIfAborted();
      if (performance.now() > deadline) {
        throw new Error(`waited ${READY_LIMIT_MS / 1000} s in vain for ${what}; see ${folder}`);
      }
      await Bun.sleep(POLL_MS);
    }
  };

  const isHeadUp = async () => {
    if (head.isGone()) throw new Error(`the head ended at once:\n${tail(head.logFile)}`);
    return (await cluster.workers()) !== null;
  };

  const cluster: Cluster = {
    url,
    names,
    headPid: () => head.pid,
    workerPid: (name) => workerOf(name).pid,
    async workers() {
      try {
        const limit = AbortSignal.timeout(2000);
        const response = await fetch(`${url}/api/v1/status`, { signal: limit, keepalive: false });
        const status: { workers: WorkerView[] } = JSON.parse(await response.text());
        return status.workers;
      } catch {
        return null; // it is starting, or away
      }
    },
    async enginePid(name) {
      const worker = (await cluster.workers())?.find((one) => one.name === name);
      const pid = worker?.engines[0]?.pid ?? null;
      if (pid === null) throw new Error(`nobody knows the engine of ${name}`);
      return pid;
    },
    engineUrls: () =>
      names.flatMap(
        (name) =>
          read(logOf(name))
            .match(/http:\S+(?= \(simulated\))/g)
            ?.at(-1) ?? [],
      ),
    signalWorker: (name, word) => workerOf(name).kill(word),
    untilWorkerGone: (name) => until(`${name} to leave`, () => workerOf(name).isGone()),
    startWorker,
    async killHead() {
      head.kill("SIGKILL");
      await head.exited;
    },
    async startHead() {
      head = startHeadProcess();
      await until("the head", isHeadUp);
    },
    async run(...words) {
      const child = Bun.spawn([...program, ...words, "--head", url], {
        cwd: root,
        stdio: ["ignore", "pipe", "pipe"],
        // Where commands find the admin token.
        env: { ...process.env, LLMNODE_DATA: join(folder, "data") },
        timeout: COMMAND_LIMIT_MS,
        signal,
      });
      const texts = [child.stdout, child.stderr].map((stream) => new Response(stream).text());
      const [code, ...said] = await Promise.all([child.exited, ...texts]);
      return { code, output: said.join("").trim() };
    },
    async heal() {
      if (head.isGone()) await cluster.startHead();
      for (const name of names) {
        if (workerOf(name).isGone()) startWorker(name);
        else workerOf(name).kill("SIGCONT");
      }
      await until("all workers to be ready", async () => {
        const gone = names.map(workerOf).find((worker) => worker.isGone());
        if (gone) throw new Error(`${gone.name} ended at once:\n${tail(gone.logFile)}`);
        const workers = (await cluster.workers()) ?? [];
        const ready = workers.filter((worker) => worker.state === "ready");
        return ready.filter((worker) => worker.engines[0]?.state === "ready").length === count;
      });
    },
    deaths: () =>
      names.reduce((sum, name) => sum + (read(logOf(name)).match(/engine ended/g) ?? []).length, 0),
  };
  await until("the head", isHeadUp);
  for (const name of names) startWorker(name);
  await cluster.heal();
  return cluster;
}

function tail(path: string): string {
  return read(path).trimEnd().split("\n").slice(-TAIL_LINES).join("\n");
}

function read(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return ""; // nothing was started yet
  }
}

/** Taken and let go at once: a head that starts again needs the same ones. */
async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer().listen(0, "127.0.0.1"));
  const ports = await Promise.all(
    servers.map(async (server) => {
      if (!server.listening) await new Promise((listening) => server.once("listening", listening));
      const address = server.address();
      return typeof address === "object" && address ? address.port : 0;
    }),
  );
  for (const server of servers) server.close();
  return ports;
}
