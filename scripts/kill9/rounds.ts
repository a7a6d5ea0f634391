/** Kills a head again and again while operators change things, and looks what it still knows. */

import { readFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { type FakeWorker, fakeWorker } from "../../test/helpers/cluster.ts";
import { JOIN_TOKEN_FILE, readLocalAdmin } from "../../src/protocol/head-files.ts";
import { messageOf } from "../../src/protocol/errors.ts";
import { randomFrom } from "../drill/tally.ts";
import { createProcesses, type Processes, type Started } from "../drill/processes.ts";
import { createLedger, type Ledger } from "./ledger.ts";
import { inventory, operate } from "./operator.ts";

export interface KillOptions {
  /** What runs llmnode: a binary, or bun and the program. */
  program: readonly string[];
  root: string;
  /** For state and logs; its own. */
  folder: string;
  rounds: number;
  operators: number;
  seed: number;
  /** A head is killed so long after its start, or after it serves, at most. */
  lifeMs: number;
  signal: AbortSignal;
}

export interface KillResult {
  rounds: number;
  /** Rounds in which it was killed before it served. */
  early: number;
  confirmed: number;
  /** One line each. */
  lost: string[];
}

/** Rejects when a head does not start, or does not answer, on what the last one left. */
export async function killRounds(options: KillOptions): Promise<KillResult> {
  const { rounds } = options;
  const random = randomFrom(options.seed);
  const ledger = createLedger();
  const lost: string[] = [];
  let early = 0;
  await using processes = createProcesses();
  const once = async (round: number) => {
    // Every fourth is killed while it starts: that must not cost anything either.
    if (round % 4 === 0) {
      const head = await startHead(processes, options);
      await Bun.sleep(random() * options.lifeMs);
      early += readLocalAdmin(options.folder) === null ? 1 : 0;
      return await kill(head.process);
    }
    const { head, admin } = await startReady(processes, options);
    const found = await inventory(admin);
    for (const line of ledger.compare(found)) lost.push(`round ${round}: ${line}`);
    await live({ ...options, ...admin, head, ledger, random, round });
  };
  for (let round = 1; round <= rounds; round += 1) {
    options.signal.throwIfAborted();
    await once(round).catch((error: unknown) => {
      const told = `round ${round}: ${messageOf(error)}; the head's last words:`;
      throw new Error(`${told}\n${lastWords(options)}`, { cause: error });
    });
  }
  const { admin } = await startReady(processes, options);
  ledger.compare(await inventory(admin)).forEach((line) => lost.push(`at the end: ${line}`));
  return { rounds, early, confirmed: ledger.confirmed, lost };
}

interface RunningHead {
  process: Started;
  sessionPort: number;
}

async function startHead(processes: Processes, options: KillOptions): Promise<RunningHead> {
  const { program, folder, root } = options;
  const sessionPort = await freePort();
  const listen = ["--listen", "127.0.0.1:0", "--lane-listen", "127.0.0.1:0"];
  const session = ["--session-listen", `127.0.0.1:${sessionPort}`, "--insecure"];
  const argv = [...program, "head", "--data-dir", folder, ...listen, ...session];
  const logFile = join(folder, LOG_FILE);
  return { process: processes.start("head", argv, { cwd: root, logFile }), sessionPort };
}

/** Another program may take the free port first: then the head is started on another one. */
async function startReady(processes: Processes, options: KillOptions) {
  for (let tries = 1; ; tries += 1) {
    const head = await startHead(processes, options);
    try {
      return { head, admin: await ready(head, options) };
    } catch (error) {
      if (tries === 3 || !lastWords(options).includes("the port is taken")) throw error;
    }
  }
}

const LOG_FILE = "head.log";

function lastWords({ folder }: KillOptions): string {
  return readFileSync(join(folder, LOG_FILE), "utf8").trimEnd().split("\n").slice(-10).join("\n");
}

const START_LIMIT_MS = 30_000;

async function ready(
  { process }: RunningHead,
  { folder, signal }: KillOptions,
): Promise<{ url: string; token: string }> {
  const deadline = performance.now() + START_LIMIT_MS;
  for (;;) {
    signal.throwIfAborted();
    const admin = readLocalAdmin(folder);
    // What is written there may be a former head's, whose number nobody has now.
    if (admin !== null && pidIn(folder) === process.pid) return admin;
    if (process.isGone() || performance.now() > deadline) {
      throw new Error("the head does not start");
    }
    await Bun.sleep(10);
  }
}

function pidIn(folder: string): number {
  return Number(/^pid (\d+)\b/.exec(readFileSync(join(folder, "head/owner"), "utf8"))?.[1]);
}

interface Life extends KillOptions {
  url: string;
  token: string;
  head: RunningHead;
  ledger: Ledger;
  random: () => number;
  round: number;
}

/** Operators work until the head is killed under their hands. */
async function live(life: Life): Promise<void> {
  const { head, random, operators, round, folder } = life;
  const stop = new AbortController();
  const joinToken = readFileSync(join(folder, JOIN_TOKEN_FILE), "utf8").trim();
  const sessionAddress = { host: "127.0.0.1", port: head.sessionPort };
  const place = { head: { sessionAddress, joinToken: () => joinToken } };
  const workers: FakeWorker[] = [];
  try {
    for (let i = 0; i < operators; i += 1) {
      const id = `worker-${round}-${i}`;
      workers.push(fakeWorker(place, { hello: { workerId: id, name: id } }));
    }
    await Promise.all(workers.map((worker) => worker.next("welcome")));
    const working = workers.map(({ id }, i) =>
      operate({ ...life, name: `operator-${round}-${i}`, worker: id, signal: stop.signal }),
    );
    await Promise.race([Promise.all(working), Bun.sleep(random() * life.lifeMs)]);
    await kill(head.process);
    stop.abort();
    await Promise.all(working);
  } finally {
    for (const worker of workers) await worker[Symbol.asyncDispose]();
  }
}

async function kill(process: Started): Promise<void> {
  process.kill("SIGKILL");
  await process.exited;
}

async function freePort(): Promise<number> {
  const { promise, resolve } = Promise.withResolvers<number>();
  const server = createServer().listen(0, "127.0.0.1", () => {
    const address = server.address();
    const port = typeof address === "object" && address !== null ? address.port : 0;
    server.close(() => resolve(port));
  });
  return await promise;
}
