/** What the benchmarks of lanes and sessions start, and the order in which all of it ends. */

import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { type Child, type Children, createChildren } from "../children.ts";
import { builtBinary } from "../targets.ts";
import { MODEL, PATH } from "../wire.ts";

const READY_LIMIT_MS = 30_000;

export interface Stage {
  children: Children;
  /** An empty directory of its own. */
  workplace: string;
  binary: string;
}

export interface StageOptions {
  /** The llmnode to measure; null: of this tree. */
  binary: string | null;
  signal: AbortSignal;
}

/** Everything that `work` starts has ended when it settles; rejects when the signal aborts. */
export async function onStage(
  { binary, signal }: StageOptions,
  work: (stage: Stage) => Promise<void>,
): Promise<void> {
  const program = binary === null ? await builtBinary() : resolve(binary);
  const workplace = mkdtempSync(join(tmpdir(), "llmnode-bench-"));
  await using stack = new AsyncDisposableStack();
  stack.defer(() => rmSync(workplace, { recursive: true, force: true }));
  const children = stack.use(createChildren());
  const aborted = Promise.withResolvers<never>();
  const abort = () => aborted.reject(signal.reason);
  if (signal.aborted) abort();
  signal.addEventListener("abort", abort);
  stack.defer(() => signal.removeEventListener("abort", abort));
  await Promise.race([
    work({ children, workplace, binary: program }),
    children.trouble,
    aborted.promise,
  ]);
}

/** Starts the engine and gives its port. */
export async function startEngine({ children, workplace }: Stage): Promise<number> {
  const engine = children.start({
    name: "engine",
    argv: [process.execPath, join(import.meta.dir, "engine-main.ts")],
    place: "rest",
    cwd: workplace,
  });
  return Number((await engine.line(/engine on port (\d+)/))[1]);
}

export interface StartedHead {
  child: Child;
  /** For clients. */
  port: number;
  /** For workers, `host:port`. */
  sessions: string;
  /** Its data directory, with its join token in it. */
  dir: string;
}

/** A head with TLS towards its workers; started anew with the same name it is the same head. */
export async function startBenchHead(
  { children, workplace, binary }: Stage,
  options: { name: string; sessions?: string },
): Promise<StartedHead> {
  const dir = join(workplace, options.name);
  mkdirSync(dir, { recursive: true });
  const child = children.start({
    name: `head of ${options.name}`,
    argv: [
      ...[binary, "head", "--listen", "127.0.0.1:0", "--log-format", "logfmt"],
      ...["--session-listen", options.sessions ?? "127.0.0.1:0", "--lane-listen", "127.0.0.1:0"],
      ...["--max-body-size", "1GiB"],
    ],
    place: "relay",
    cwd: dir,
    env: { LLMNODE_DATA: dir },
  });
  const [, url = "", sessions = ""] = await child.line(/msg="head is up" url=(\S+) sessions=(\S+)/);
  return { child, port: Number(new URL(url).port), sessions, dir };
}

export type LaneTargetName = "engine" | "direct" | "lane";

export interface LaneTarget {
  name: LaneTargetName;
  port: number;
  /** Both null for the engine alone. */
  headPid: number | null;
  workerPid: number | null;
}

/** The engine alone, and two heads with a worker each: one reached directly, one by lanes. */
export async function startLaneField(stage: Stage): Promise<LaneTarget[]> {
  const enginePort = await startEngine(stage);
  const targets: LaneTarget[] = [
    { name: "engine", port: enginePort, headPid: null, workerPid: null },
  ];
  for (const way of ["direct", "lane"] as const) {
    const head = await startBenchHead(stage, { name: way });
    const worker = stage.children.start({
      name: `worker of ${way}`,
      argv: [
        ...[stage.binary, "join", head.sessions, "--transport", way, "--log-format", "logfmt"],
        ...["--attach", `http://127.0.0.1:${enginePort}`],
      ],
      place: "rest",
      cwd: head.dir,
      env: { LLMNODE_DATA: head.dir },
    });
    targets.push({ name: way, port: head.port, headPid: head.child.pid, workerPid: worker.pid });
  }
  for (const target of targets) await untilAnswers(target, stage.children);
  return targets;
}

/** Waits until a request is answered as it should be. */
export async function untilAnswers(
  { name, port }: { name: string; port: number },
  children: Children,
): Promise<void> {
  const body = JSON.stringify({ model: MODEL, messages: [{ role: "user", content: "Hello." }] });
  const deadline = performance.now() + READY_LIMIT_MS;
  for (let last = ""; ;) {
    const asking = fetch(`http://127.0.0.1:${port}${PATH}`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body,
      proxy: false,
      signal: AbortSignal.timeout(5000),
    }).then(
      async (response) => `${response.status} ${await response.text()}`,
      (error: unknown) => String(error),
    );
    last = await Promise.race([asking, children.trouble]);
    if (last.startsWith("200 ")) return;
    if (performance.now() > deadline) {
      throw new Error(`${name} does not answer: ${last.slice(0, 300)}`);
    }
    await Bun.sleep(100);
  }
}

/** What others do on this machine shows here: figures taken under load say little. */
export function machineLoad(): string {
  return readFileSync("/proc/loadavg", "utf8").split(" ").slice(0, 3).join(" ");
}

/** To stderr: stdout is for the tables. */
export function say(line: string): void {
  process.stderr.write(`${line}\n`);
}
