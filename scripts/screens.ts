/**
 * Pictures of `llmnode top` as text, taken of a cluster that runs: a real head, workers with
 * simulated engines, requests.
 *
 *   scripts/run.sh screens [--into README.md] [--only empty,workers,...]
 *
 * With `--into` they replace what is between `<!-- screens:begin -->` and `<!-- screens:end -->`
 * there; else they are printed.
 */

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { type PtyProgram, startOnPty } from "../test/top/pty.ts";

const MAIN = resolve(import.meta.dir, "../src/main.ts");
const BEGIN = "<!-- screens:begin -->";
const END = "<!-- screens:end -->";
const MODEL = "Qwen/Qwen3-8B";
const REQUESTS = 6;
/** A busy machine starts seven processes slowly. */
const PATIENT = { timeoutMs: 60_000 };
/** Who orders a drain there. */
const OPERATOR = "ada";

interface Shot {
  name: string;
  title: string;
  text: string;
}

const { values } = parseArgs({
  options: { into: { type: "string" }, only: { type: "string" } },
});

await main();

async function main(): Promise<void> {
  const file = values.into === undefined ? null : resolve(values.into);
  // Said before the minute that the pictures take.
  if (file !== null) split(file);
  const only = values.only?.split(",") ?? null;
  const shots = (await takeShots(only)).filter(({ name }) => only === null || only.includes(name));
  const text = shots
    .map((shot) => `${shot.title}\n\n\`\`\`text\n${shot.text}\n\`\`\`\n`)
    .join("\n");
  if (file === null) {
    process.stdout.write(text);
    return;
  }
  const { before, after } = split(file);
  writeFileSync(file, `${before}${BEGIN}\n\n${text}\n${END}${after}`);
}

function split(file: string): { before: string; after: string } {
  const text = readFileSync(file, "utf8");
  const [before = "", rest] = text.split(BEGIN);
  const after = rest?.split(END)[1];
  if (after === undefined) throw new Error(`${file} has no ${BEGIN} ... ${END}`);
  return { before, after };
}

async function takeShots(only: readonly string[] | null): Promise<Shot[]> {
  const workplace = mkdtempSync(join(tmpdir(), "llmnode-screens-"));
  await using stack = new AsyncDisposableStack();
  stack.defer(() => rmSync(workplace, { recursive: true, force: true }));
  const run = (words: readonly string[]) => {
    const child = Bun.spawn([process.execPath, MAIN, ...words], {
      stdio: ["ignore", "ignore", "pipe"],
      cwd: workplace,
      env: {
        PATH: process.env["PATH"] ?? "",
        HOME: workplace,
        USER: OPERATOR,
        LLMNODE_DATA: join(workplace, "data"),
      },
    });
    stack.defer(async () => {
      child.kill("SIGTERM");
      const late = setTimeout(() => child.kill("SIGKILL"), 5000);
      await child.exited;
      clearTimeout(late);
    });
    return child;
  };
  const head = run(["head", "--listen", "127.0.0.1:0", "--session-listen", "127.0.0.1:0"]);
  const { url, sessions } = await addresses(head.stderr);
  const small = stack.use(
    startOnPty(["top", "--head", url], { env: { LLMNODE_DATA: join(workplace, "data") } }),
  );
  const shots: Shot[] = [];
  const shoot = async (name: string, title: string, shown: RegExp, from = small) => {
    await from.shows(shown, PATIENT);
    shots.push({ name, title, text: picture(from) });
  };

  await shoot("empty", "An empty cluster says how to fill it:", /No workers have joined yet/);
  if (only?.every((name) => name === "empty")) return shots;
  const worker = (name: string, ...more: string[]) => {
    const model = more.includes("--model") ? [] : ["--model", MODEL];
    const engine = ["llmnode", "sim", "--port", "0", ...model, ...more];
    return run(["join", sessions, "--name", name, "--", ...engine]);
  };
  for (const name of ["gpu-01", "gpu-02", "gpu-03"]) worker(name, "--itl", "60ms");
  worker("gpu-04", "--model", "deepseek-ai/DeepSeek-V3", "--load-time", "10m");
  const dead = worker("gpu-05");
  await small.shows(/gpu-05 +\* ready/, PATIENT);
  await small.shows(/gpu-04 +~ /, PATIENT);
  for (const name of ["gpu-01", "gpu-02", "gpu-03"])
    await small.shows(new RegExp(`${name} +\\* ready`), PATIENT);
  const ending = new AbortController();
  stack.defer(() => ending.abort());
  for (let i = 0; i < REQUESTS; i += 1) void ask(url, ending.signal);
  await small.shows(new RegExp(`infl ${REQUESTS} `), PATIENT);
  // As when its machine dies: the engine goes with it.
  for (const pid of [...descendants(dead.pid), dead.pid]) process.kill(pid, "SIGKILL");
  const drain = run(["drain", "gpu-03", "--no-wait", "--message", "new driver", "--head", url]);
  if ((await drain.exited) !== 0) throw new Error(`drain: ${await drain.stderr.text()}`);
  await small.shows(/gpu-05 +x lost/, PATIENT);
  await shoot(
    "workers",
    "`llmnode top`, with a worker that was killed, one that loads its model and one that is drained:",
    /gpu-03 +- drain/,
  );
  small.type("2");
  await shoot("models", "The models, and where the chosen one runs:", /-- replicas of .*\n.*gpu-/);
  small.type("3");
  await shoot("requests", "What is running, without a word of it:", /decode/);
  return shots;
}

async function addresses(stream: ReadableStream<Uint8Array>) {
  let text = "";
  const decoder = new TextDecoder();
  const reader = stream.getReader();
  for (;;) {
    const { value, done } = await reader.read();
    if (done) break;
    text += decoder.decode(value, { stream: true });
    const [, url, sessions] = /url=(\S+) sessions=(\S+)/.exec(text) ?? [];
    if (url !== undefined && sessions !== undefined) {
      // Its log goes on, and nobody reads it.
      reader.releaseLock();
      return { url, sessions };
    }
  }
  throw new Error(`the head has ended:\n${text}`);
}

/** A long answer, which nobody reads to its end. */
async function ask(url: string, signal: AbortSignal): Promise<void> {
  try {
    const response = await fetch(`${url}/v1/chat/completions`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({
        model: MODEL,
        stream: true,
        max_tokens: 20_000,
        messages: [{ role: "user", content: "Tell me everything." }],
      }),
      signal,
    });
    for await (const _ of response.body ?? []) if (signal.aborted) return;
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}

function descendants(pid: number): number[] {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim();
  const pids = children === "" ? [] : children.split(" ").map(Number);
  return pids.flatMap((child) => [child, ...descendants(child)]);
}

/** The address would be another one every time. */
function picture(from: PtyProgram): string {
  return from
    .text()
    .split("\n")
    .map((line) =>
      line
        // With the usual port for workers the name is enough.
        .replace(/llmnode join 127\.0\.0\.1:\d+/g, "llmnode join head-1")
        .replace(/127\.0\.0\.1:\d+/g, "head-1:8092")
        .trimEnd(),
    )
    .join("\n");
}
