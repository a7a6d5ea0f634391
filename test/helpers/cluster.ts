/** A head on free ports, and workers that are no more than a session, for tests. */

import { readFileSync } from "node:fs";
import path from "node:path";
import type { RouteSettings } from "../../src/cluster/routing/policies.ts";
import { type Head, startHead } from "../../src/head/head.ts";
import type { HeadOptions, HeadSettings } from "../../src/head/options.ts";
import type {
  HeadMessage,
  Hello,
  UnknownMessage,
  WorkerMessage,
} from "../../src/protocol/messages.ts";
import {
  unknownReport,
  type WireEngineReport,
  writeReport,
} from "../../src/protocol/engine-report.ts";
import { ADMIN_TOKEN_FILE, parseJoinToken } from "../../src/protocol/head-files.ts";
import { loadService } from "../../src/protocol/schema.ts";
import type { StatusJson } from "../../src/protocol/watch-json.ts";
import { type ClientSession, dial, type HeadKey } from "../../src/protocol/session-client.ts";
import { readHostFacts } from "../../src/telemetry/host.ts";
import { createLog, type Log } from "../../src/util/log.ts";
import { tempDir } from "./temp.ts";
import { waitFor } from "./wait.ts";

/** A log whose lines a test can read. */
export function memoryLog(): { log: Log; lines: string[] } {
  const lines: string[] = [];
  const log = createLog({ format: "logfmt", level: "debug", write: (line) => lines.push(line) });
  return { log, lines };
}

export interface TestHead extends AsyncDisposable {
  readonly head: Head;
  readonly url: string;
  readonly lines: string[];
  readonly dataDir: string;
  /** What an operator's requests need, as headers. */
  readonly operator: Record<string, string>;
  post(path: string, body: unknown, init?: RequestInit): Promise<Response>;
  status(): Promise<StatusJson>;
  /** Waits until a model has this many replicas ready. */
  ready(model: string, count?: number): Promise<void>;
}

export async function startTestHead(
  settings: Partial<HeadSettings> = {},
  options: {
    http?: number;
    session?: number;
    dataDir?: string;
    tls?: boolean;
    resume?: "auto" | "off";
    routing?: RouteSettings;
    access?: HeadOptions["access"];
    public?: HeadOptions["public"];
    adminListen?: HeadOptions["adminListen"];
    insecure?: boolean;
  } = {},
): Promise<TestHead> {
  const { log, lines } = memoryLog();
  await using stack = new AsyncDisposableStack();
  const dataDir = options.dataDir ?? stack.use(tempDir()).path;
  const head = await startHead({
    listen: { host: "127.0.0.1", port: options.http ?? 0 },
    sessionListen: { host: "127.0.0.1", port: options.session ?? 0 },
    // Fake workers speak plainly; what TLS adds has tests of its own.
    insecure: options.insecure ?? options.tls !== true,
    dataDir,
    version: "0.0.0-test",
    log,
    settings,
    ...(options.resume === undefined ? {} : { resume: options.resume }),
    ...(options.routing && { routing: options.routing }),
    ...(options.access && { access: options.access }),
    ...(options.public && { public: options.public }),
    ...(options.adminListen && { adminListen: options.adminListen }),
  });
  const files = stack.move();
  const operator = operatorOf(dataDir);
  const status = async () => {
    const response = await fetch(`${head.url}/api/v1/status`);
    return (await response.json()) as StatusJson;
  };
  return {
    head,
    url: head.url,
    lines,
    dataDir,
    operator,
    status,
    post: (path, body, init = {}) =>
      fetch(`${head.url}${path}`, {
        method: "POST",
        body: typeof body === "string" ? body : JSON.stringify(body),
        headers: {
          "content-type": "application/json",
          ...(path.startsWith("/api/v1/") ? operator : {}),
        },
        ...init,
      }),
    async ready(model, count = 1) {
      await waitFor(
        async () => (await status()).models.find(({ name }) => name === model)?.ready === count,
        { what: `${count} ready replicas of ${model}` },
      );
    },
    async [Symbol.asyncDispose]() {
      await head[Symbol.asyncDispose]();
      await files.disposeAsync();
    },
  };
}

/** The headers of an operator's request to the head that keeps its state there. */
export function operatorOf(dataDir: string): Record<string, string> {
  const token = readFileSync(path.join(dataDir, ADMIN_TOKEN_FILE), "utf8").trim();
  return { authorization: `Bearer ${token}` };
}

/** What a fake worker shows: a whole join token, unless it is told another. */
export function keyOf(joinToken: string | null, credential: string | null = null): HeadKey[] {
  const token = parseJoinToken(joinToken ?? "");
  if (!token) return [];
  return [{ fingerprint: token.fingerprint, joinToken: token.secret, credential }];
}

export interface FakeWorker extends AsyncDisposable {
  readonly id: string;
  readonly received: (HeadMessage | UnknownMessage)[];
  /** Why the session ended, once it has. */
  readonly closed: Promise<string>;
  send(message: WorkerMessage): void;
  report(more?: Partial<WireEngineReport>): void;
  models(...ids: string[]): void;
  /** The first message of a kind, waited for. */
  next<K extends HeadMessage["message"]>(kind: K): Promise<Extract<HeadMessage, { message: K }>>;
  /** Stops its heartbeats. */
  silence(): void;
  drop(): void;
}

let workers = 0;

/** A session that says what the test says; it beats every 50 ms until silenced. */
export function fakeWorker(
  head: { head: Pick<Head, "sessionAddress" | "joinToken"> },
  options: {
    hello?: Partial<Hello>;
    port?: number;
    models?: string[];
    keys?: HeadKey[];
    tls?: boolean;
    onMessage?: (message: HeadMessage | UnknownMessage) => void;
  } = {},
): FakeWorker {
  workers += 1;
  const id = options.hello?.workerId ?? `fake-worker-${process.pid}-${workers}`;
  const received: (HeadMessage | UnknownMessage)[] = [];
  const closed = Promise.withResolvers<string>();
  const engineRun = `engine-${id}-${Math.random()}`;
  let sequence = 0;
  let revision = 0;
  const session: ClientSession = dial({
    service: loadService(),
    head: head.head.sessionAddress,
    tls: options.tls ?? false,
    keys: options.keys ?? keyOf(head.head.joinToken()),
    onMessage(message) {
      received.push(message);
      options.onMessage?.(message);
    },
    onClose: (reason, refusal) => {
      clearInterval(beat);
      if (refusal) received.push({ message: "refusal", refusal });
      closed.resolve(reason);
    },
  });
  const beat = setInterval(() => {
    sequence += 1;
    session.send({ message: "heartbeat", heartbeat: { sequence } });
  }, 50);
  const send = (message: WorkerMessage) => void session.send(message);
  const report = (more: Partial<WireEngineReport> = {}) =>
    send({
      message: "engine",
      engine: {
        ...writeReport("1", unknownReport(0), 0),
        run: engineRun,
        kind: "vllm",
        state: "READY",
        port: options.port ?? 0,
        ...more,
      },
    });
  const models = (...ids: string[]) => {
    revision += 1;
    const list = ids.map((model) => ({ id: model, parent: "", card: "" }));
    send({
      message: "models",
      models: { engine: "1", run: "", revision, models: list, more: false },
    });
  };
  send({
    message: "hello",
    hello: {
      protocol: 2,
      minProtocol: 2,
      version: "0.0.0-test",
      workerId: id,
      name: id,
      nameChosen: false,
      run: `run-${id}`,
      epoch: 1,
      labels: {},
      host: readHostFacts(),
      sentAt: Date.now(),
      // It opens no lanes.
      data: "direct",
      continues: "",
      ...options.hello,
    },
  });
  if (options.port !== undefined) report();
  else if (options.models) report({ state: "STARTING" });
  if (options.models) models(...options.models);
  return {
    id,
    received,
    closed: closed.promise,
    send,
    report,
    models,
    async next(kind) {
      const found = await waitFor(() => received.find((message) => message.message === kind), {
        what: `a ${kind}`,
      });
      return found as never;
    },
    silence: () => clearInterval(beat),
    drop: () => session.drop("the test"),
    async [Symbol.asyncDispose]() {
      session.drop("the test is over");
      await closed.promise;
    },
  };
}

/** Settings of a head that run at a tenth of the real times or less. */
export const FAST: Partial<HeadSettings> = {
  cluster: {
    heartbeatIntervalMs: 100,
    staleAfterMs: 500,
    lostAfterMs: 1500,
    replaceRunAfterMs: 500,
    endedGraceMs: 200,
    tickIntervalMs: 25,
    settleMs: 0,
    queueTimeoutMs: 1500,
  },
  stopTimeoutMs: 3000,
  reprobeMs: 200,
};
