/** Shows llmnode: a head, two workers on simulated engines, one streamed answer. */

import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join, relative, resolve } from "node:path";
import { readChatStream } from "./chat-stream.ts";

const ROOT = resolve(import.meta.dir, "..");
const BINARY = join(ROOT, "dist", "llmnode");
const MODEL = "demo";
const WORKERS = ["demo-1", "demo-2"];
const HTTP_PORT = 8092;
const SESSION_PORT = 8093;
const CHAT_PATH = "/v1/chat/completions";
const JSON_TYPE = "content-type: application/json";
const READY_LIMIT_MS = 60_000;
/** Simulated engines end at once; real trouble must not keep a terminal for long. */
const STOP_LIMIT_MS = 15_000;
const LOG_TAIL_LINES = 15;

interface Started {
  name: string;
  logFile: string;
  process: Bun.Subprocess;
}

const once = readArguments(process.argv.slice(2));
const workplace = mkdtempSync(join(tmpdir(), "llmnode-quickstart-"));
const DATA = join(workplace, "data");
const started: Started[] = [];
const interrupted = new AbortController();
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  process.on(signal, () => interrupted.abort());
}

let exitCode = 0;
try {
  await show();
} catch (error) {
  if (interrupted.signal.aborted) {
    exitCode = 130;
  } else {
    exitCode = 1;
    say(`error: ${error instanceof Error ? error.message : String(error)}`);
    for (const { name, logFile } of started) {
      say(`\nthe end of the log of ${name}:`);
      say(tail(logFile).replace(/^/gm, "  | "));
    }
  }
} finally {
  await stopAll();
  rmSync(workplace, { recursive: true, force: true });
}
process.exit(exitCode);

async function show(): Promise<void> {
  const listen = await freeOrAny(HTTP_PORT);
  const sessionListen = await freeOrAny(SESSION_PORT);
  say("starting a head and two workers on simulated engines");
  const head = start("the head", [
    ...["head", "--listen", `127.0.0.1:${listen}`],
    ...["--session-listen", `127.0.0.1:${sessionListen}`, "--lane-listen", "127.0.0.1:0"],
    ...["--log-format", "logfmt"],
  ]);
  const [, url = "", sessions = ""] = await until("the head to be up", () =>
    /msg="head is up" url=(\S+) sessions=(\S+)/.exec(readFileSync(head.logFile, "utf8")),
  );
  tellPort(HTTP_PORT, listen, new URL(url).port);
  tellPort(SESSION_PORT, sessionListen, sessions.replace(/.*:/, ""));
  for (const name of WORKERS) {
    start(name, [
      ...["join", sessions, "--name", name, "--"],
      ...["llmnode", "sim", "--port", "0", "--model", MODEL, "--ttft", "200ms", "--itl", "40ms"],
    ]);
  }
  await until("both workers to be ready", async () => {
    const status = await run([BINARY, "status", "--json", "--head", url]);
    return readyReplicas(status) === WORKERS.length;
  });

  say(`\nthe first answer, streamed through the head:\n`);
  await firstAnswer(url);
  say("\nllmnode status:\n");
  say((await run([BINARY, "status", "--head", url])).trimEnd());
  if (once) return;

  const program = relative(process.cwd(), BINARY);
  const other = new URL(url).port === String(HTTP_PORT) ? "" : ` LLMNODE_HEAD=${url}`;
  // Where this head's join token and admin token are: without it the commands would look elsewhere.
  say(`
Try next, in another terminal:

  export LLMNODE_DATA=${DATA}${other}
  curl ${url}/v1/models
  ${curlLine(url)}
  ${program} status
  ${program} join ${sessions} -- llmnode sim --port 0 --model another
  ${program} join ${sessions} -- vllm serve Qwen/Qwen3-8B --port 8080
  ${program} help

Any OpenAI client works with base URL ${url}/v1 and any key. Ctrl-C ends all of this.`);
  const ended = started.map(async ({ name, process: child }) => {
    await child.exited;
    throw new Error(`${name} ended by itself`);
  });
  await Promise.race([aborted(), ...ended]);
}

/** How many replicas of the model the JSON of `llmnode status` calls ready; 0 when it is none. */
function readyReplicas(json: string): number {
  if (json === "") return 0; // no answer from the head
  const status: { models?: Array<{ name: string; ready: number }> } = JSON.parse(json);
  return status.models?.find(({ name }) => name === MODEL)?.ready ?? 0;
}

function requestBody(): string {
  const messages = [{ role: "user", content: "What is a head?" }];
  return JSON.stringify({ model: MODEL, stream: true, max_tokens: 48, messages });
}

function curlLine(url: string): string {
  return `curl -N ${url}${CHAT_PATH} -H '${JSON_TYPE}' \\\n    -d '${requestBody()}'`;
}

/** With curl, to show that nothing special is needed; without one, with what is here. */
async function firstAnswer(url: string): Promise<void> {
  const target = `${url}${CHAT_PATH}`;
  const curl = Bun.which("curl");
  say(`$ ${curlLine(url)}\n`);
  let stream: AsyncIterable<Uint8Array>;
  if (curl === null) {
    const response = await fetch(target, {
      method: "POST",
      body: requestBody(),
      headers: { "content-type": "application/json" },
      signal: interrupted.signal,
      proxy: false,
    });
    if (response.body === null) throw new Error("the answer has no body");
    stream = response.body;
  } else {
    const words = ["-sSN", "--noproxy", "*", target, "-H", JSON_TYPE, "-d", requestBody()];
    const child = Bun.spawn([curl, ...words], {
      stdio: ["ignore", "pipe", "inherit"],
      signal: interrupted.signal,
    });
    stream = child.stdout;
  }
  const wrong = await readChatStream(stream, (text) => void process.stdout.write(text));
  say("");
  if (wrong !== null) throw new Error(`the first answer failed: ${wrong}`);
}

/** In its own process group, so that Ctrl-C comes here alone and the order of the end is ours. */
function start(name: string, args: string[]): Started {
  const logFile = join(workplace, `${name.replace(/\W/g, "-")}.log`);
  const log = openSync(logFile, "a");
  const child = Bun.spawn([BINARY, ...args], {
    stdio: ["ignore", log, log],
    detached: true,
    cwd: workplace,
    env: { ...withoutSettings(process.env), LLMNODE_DATA: DATA },
  });
  closeSync(log);
  const entry = { name, logFile, process: child };
  started.push(entry);
  return entry;
}

/** Settings that the user has for a real cluster are not meant for this one. */
function withoutSettings(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(env).filter(([key]) => !key.startsWith("LLMNODE_")));
}

/** Workers first, for their engines end with them; then the head. */
async function stopAll(): Promise<void> {
  const [head, ...workers] = started;
  await Promise.all(workers.map(stop));
  if (head !== undefined) await stop(head);
}

/** What does not end in time is killed. */
async function stop({ process: child }: Started): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill("SIGTERM");
  const timer = setTimeout(() => child.kill("SIGKILL"), STOP_LIMIT_MS);
  await child.exited;
  clearTimeout(timer);
}

/** Asks every 100 ms; throws when interrupted, too late, or when something that runs has ended. */
async function until<T>(
  what: string,
  ask: () => T | null | false | Promise<T | false>,
): Promise<T> {
  const deadline = performance.now() + READY_LIMIT_MS;
  for (;;) {
    const answer = await ask();
    if (answer !== null && answer !== false) return answer;
    const gone = started.find(
      ({ process: child }) => child.exitCode !== null || child.signalCode !== null,
    );
    if (gone !== undefined) throw new Error(`${gone.name} ended with ${gone.process.exitCode}`);
    if (performance.now() > deadline) throw new Error(`waited in vain for ${what}`);
    interrupted.signal.throwIfAborted();
    await Bun.sleep(100);
  }
}

/** What a command prints on stdout; its errors are for the log tails, not for the screen. */
async function run(command: string[]): Promise<string> {
  const child = Bun.spawn(command, { stdio: ["ignore", "pipe", "ignore"] });
  return new Response(child.stdout).text();
}

function aborted(): Promise<void> {
  const { promise, resolve: done } = Promise.withResolvers<void>();
  if (interrupted.signal.aborted) done();
  interrupted.signal.addEventListener("abort", () => done());
  return promise;
}

/** The port, or 0 (any) when it is taken. */
function freeOrAny(port: number): Promise<number> {
  const { promise, resolve: done } = Promise.withResolvers<number>();
  const server = createServer();
  server.once("error", () => done(0));
  server.listen({ port, host: "127.0.0.1", exclusive: true }, () => {
    server.close(() => done(port));
  });
  return promise;
}

function tellPort(usual: number, asked: number, taken: string): void {
  if (asked !== usual) say(`port ${usual} is in use: taking ${taken} instead`);
}

function tail(file: string): string {
  return readFileSync(file, "utf8").trimEnd().split("\n").slice(-LOG_TAIL_LINES).join("\n");
}

function readArguments(args: string[]): boolean {
  const unknown = args.find((arg) => arg !== "--once");
  if (unknown !== undefined) {
    say(`error: unknown option ${unknown}; there is only --once`);
    process.exit(2);
  }
  return args.includes("--once");
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}
