/** Starts what is compared: the engine alone, a bare relay, llmnode, and other relays if installed. */

import { mkdirSync } from "node:fs";
import { join, resolve } from "node:path";
import type { Child, Children } from "./children.ts";
import type { Aim } from "./jobs.ts";
import { startHaproxy, startNginx, startPortkey, startSglang, startVllm } from "./others.ts";
import { type ExtraHeaders, MODEL, PATH, plainRequest } from "./wire.ts";

const ROOT = resolve(import.meta.dir, "../..");
const READY_LIMIT_MS = 30_000;
/** Bun lets 256 fetches run at a time unless its process was started with another number. */
const MANY_FETCHES = { BUN_CONFIG_MAX_HTTP_REQUESTS: "65535" };

/** `keys`: llmnode as well, with an API key that has every limit. */
export type TargetName =
  "direct" | "bare" | LlmnodeOptions["name"] | "nginx" | "haproxy" | "portkey" | "sglang" | "vllm";

export interface Target {
  name: TargetName;
  port: number;
  headers: ExtraHeaders;
  /** Of the relay; null where there is none. */
  pid: number | null;
}

export function aimAt({ port, headers, pid }: Target): Aim {
  return { port, headers, watchPid: pid };
}

export interface Field {
  targets: Target[];
  /** Why some are not there, for people. */
  skipped: string[];
}

export interface FieldOptions {
  children: Children;
  /** An empty directory. */
  workplace: string;
  withPortkey: boolean;
  withRouters: boolean;
  withKeys: boolean;
  /** The llmnode to measure. */
  binary: string;
}

export async function startField(options: FieldOptions): Promise<Field> {
  const { children, workplace } = options;
  const enginePort = await startEngine(children, workplace);
  const targets: Target[] = [{ name: "direct", port: enginePort, headers: {}, pid: null }];
  const skipped: string[] = [];
  targets.push(
    await startBare(options, enginePort),
    await startLlmnode({ ...options, enginePort, name: "llmnode" }),
  );
  if (options.withKeys) targets.push(await startKeyed({ ...options, enginePort }));
  for (const start of [startNginx, startHaproxy, startPortkey, startSglang, startVllm]) {
    const found = await start({ ...options, enginePort });
    if (typeof found === "string") skipped.push(found);
    else targets.push(found);
  }
  for (const target of targets) await untilAnswers(target, children);
  return { targets, skipped };
}

/** The engine that all relays have behind them; gives its port. */
export async function startEngine(children: Children, workplace: string): Promise<number> {
  const engine = children.start({
    name: "engine",
    argv: [process.execPath, join(import.meta.dir, "engine-main.ts")],
    place: "rest",
    cwd: workplace,
  });
  return Number((await engine.line(/engine on port (\d+)/))[1]);
}

async function startBare(options: FieldOptions, enginePort: number): Promise<Target> {
  const child = options.children.start({
    name: "bare relay",
    argv: [
      process.execPath,
      join(import.meta.dir, "bare-main.ts"),
      `http://127.0.0.1:${enginePort}`,
    ],
    place: "relay",
    cwd: options.workplace,
    env: MANY_FETCHES,
  });
  const [, port] = await child.line(/bare relay on port (\d+)/);
  return { name: "bare", port: Number(port), headers: {}, pid: child.pid };
}

export interface LlmnodeOptions extends Pick<FieldOptions, "children" | "workplace" | "binary"> {
  enginePort: number;
  name: "llmnode" | "keys" | "old" | "new";
  /** How the head reaches the worker; on one machine that is directly, unless told. */
  transport?: "direct" | "lane";
}

/** A head in a folder of its own below the workplace, and a worker with that engine. */
export async function startLlmnode(options: LlmnodeOptions): Promise<Target> {
  const { children, binary, workplace, enginePort, name, transport = "direct" } = options;
  const cwd = join(workplace, `${name}-${transport}`);
  mkdirSync(cwd);
  const env = { LLMNODE_DATA: cwd };
  const plain = ["--log-format", "logfmt"];
  const head: Child = children.start({
    name: `${name} head (${transport})`,
    argv: [
      ...[binary, "head", "--listen", "127.0.0.1:0"],
      ...["--session-listen", "127.0.0.1:0", "--lane-listen", "127.0.0.1:0", ...plain],
    ],
    place: "relay",
    cwd,
    env,
  });
  const [, url = "", sessions = ""] = await head.line(/msg="head is up" url=(\S+) sessions=(\S+)/);
  children.start({
    name: `${name} join (${transport})`,
    argv: [
      ...[binary, "join", sessions, "--attach", `http://127.0.0.1:${enginePort}`],
      // The engine of this bench takes all that comes: what is measured is the relay, not a queue.
      ...["--max-in-flight", "100000", "--transport", transport, ...plain],
    ],
    place: "rest",
    cwd,
    env,
  });
  return { name, port: Number(new URL(url).port), headers: {}, pid: head.pid };
}

/** The same, asked with a key whose limits are counted and never reached. */
export async function startKeyed(options: Omit<LlmnodeOptions, "name">): Promise<Target> {
  const target = await startLlmnode({ ...options, name: "keys" });
  const limits = ["--rpm", "1000000", "--tpm", "1000000000", "--concurrency", "100000"];
  const create = Bun.spawn(
    [
      ...[options.binary, "key", "create", ...limits, "--tokens-per-day", "1000000000000"],
      ...["--head", `http://127.0.0.1:${target.port}`],
    ],
    {
      stdio: ["ignore", "pipe", "inherit"],
      env: { ...process.env, LLMNODE_DATA: join(options.workplace, "keys-direct") },
    },
  );
  const key = (await create.stdout.text()).trim();
  if ((await create.exited) !== 0) throw new Error("no API key can be made");
  return { ...target, headers: { authorization: `Bearer ${key}` } };
}

/** Asks until a request is answered as it should be. */
export async function untilAnswers(target: Target, children: Children): Promise<void> {
  const request = plainRequest(200, target.headers).toString();
  const body = request.slice(request.indexOf("\r\n\r\n") + 4);
  const deadline = performance.now() + READY_LIMIT_MS;
  for (let last = "no answer"; ;) {
    const asking = fetch(`http://127.0.0.1:${target.port}${PATH}`, {
      method: "POST",
      headers: { "content-type": "application/json", ...target.headers },
      body,
      proxy: false,
      signal: AbortSignal.timeout(5000),
    }).then(
      async (response) => `${response.status} ${await response.text()}`,
      (error: unknown) => String(error),
    );
    last = await Promise.race([asking, children.trouble]);
    if (last.startsWith("200 ") && last.includes(MODEL)) return;
    if (performance.now() > deadline) {
      throw new Error(`${target.name} does not answer: ${last.slice(0, 300)}`);
    }
    await Bun.sleep(100);
  }
}

/** The llmnode of this tree, built when it is missing or older than its sources. */
export async function builtBinary(): Promise<string> {
  const build = Bun.spawn([process.execPath, join(ROOT, "scripts/build.ts"), "--if-stale"], {
    stdio: ["ignore", "ignore", "inherit"],
    cwd: ROOT,
  });
  if ((await build.exited) !== 0) throw new Error("llmnode cannot be built");
  return join(ROOT, "dist", "llmnode");
}
