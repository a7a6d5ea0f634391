import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { readdirSync, readFileSync, readlinkSync, writeFileSync } from "node:fs";
import path from "node:path";
import { ownEnvironment } from "../../helpers/environment.ts";
import {
  isRunning,
  processesWithEnvironment,
  runProcess,
  spawnProcess,
  type TestProcess,
} from "../../helpers/process.ts";
import { tempDir } from "../../helpers/temp.ts";
import { waitFor } from "../../helpers/wait.ts";

setDefaultTimeout(60_000);

const MAIN = path.resolve(import.meta.dir, "../../../src/main.ts");
const SLOW = { timeoutMs: 30_000 };
const home = tempDir();
let head: TestProcess;
let url = "";
let sessions = "";

beforeAll(async () => {
  head = llmnode(["head", "--listen", "127.0.0.1:0", "--session-listen", "127.0.0.1:0"]);
  [, url = "", sessions = ""] = await head.waitForLine(/url=(\S+) sessions=(\S+)/, SLOW);
});
afterAll(async () => {
  await head[Symbol.asyncDispose]();
  home[Symbol.dispose]();
});

/** No setting of the person who runs the tests; head and workers share the home, and a join token. */
const environment = (extra: Record<string, string> = {}) => ownEnvironment(home.path, extra);

function llmnode(args: string[], env: Record<string, string> = {}): TestProcess {
  return spawnProcess([process.execPath, MAIN, ...args], {
    env: environment(env),
    graceMs: 15_000,
  });
}

/** A worker with a simulated engine for `model`. */
function join(model: string, args: string[] = [], env: Record<string, string> = {}): TestProcess {
  return llmnode(["join", sessions, ...args, "--", ...engine(model)], env);
}

function engine(model: string): string[] {
  return ["llmnode", "sim", "--port", "0", "--model", model, "--itl", "20ms", "--ttft", "50ms"];
}

interface WorkerJson {
  name: string;
  engines: { replicas: { name: string; state: string }[] }[];
}

async function readyWorkers(model: string): Promise<string[]> {
  const text = await (await fetch(`${url}/api/v1/status`)).text();
  const { workers } = JSON.parse(text) as { workers: WorkerJson[] };
  return workers
    .filter(({ engines }) =>
      engines.some(({ replicas }) =>
        replicas.some((replica) => replica.name === model && replica.state === "ready"),
      ),
    )
    .map(({ name }) => name);
}

async function untilReady(model: string, worker: TestProcess, count = 1): Promise<string[]> {
  return await waitFor(
    async () => {
      if (!isRunning(worker.pid)) throw new Error(worker.output());
      const names = await readyWorkers(model);
      return names.length === count ? names : null;
    },
    { what: `${count} replicas of ${model}`, ...SLOW },
  );
}

/** The simulated engine of a worker, by a mark that the worker was told to give it. */
function engineWith(mark: string): number {
  const own = processesWithEnvironment(mark).filter((pid) =>
    readFileSync(`/proc/${pid}/environ`, "latin1").includes(`\0${mark}`),
  );
  expect(own.length).toBe(1);
  return own[0] ?? 0;
}

function variable(pid: number, name: string): string | undefined {
  const all = readFileSync(`/proc/${pid}/environ`, "latin1").split("\0");
  return all.find((entry) => entry.startsWith(`${name}=`))?.slice(name.length + 1);
}

function commandLinesWith(text: string): string[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, "latin1");
      } catch {
        return ""; // it ended meanwhile
      }
    })
    .filter((line) => line.includes(text));
}

interface Load {
  /** How many were answered whole so far, by worker. */
  answered: Map<string, number>;
  /** Ends it; what went wrong, a line each. */
  stop(): Promise<string[]>;
}

/** Clients that ask for streams one after the other, as fast as they are answered. */
function startLoad(model: string, clients: number): Load {
  const answered = new Map<string, number>();
  const wrong: string[] = [];
  let isOver = false;
  const ask = async () => {
    const response = await fetch(`${url}/v1/chat/completions`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({
        model,
        stream: true,
        max_tokens: 20,
        messages: [{ role: "user", content: "hello" }],
      }),
    });
    const text = await response.text();
    const worker = response.headers.get("x-llmnode-worker") ?? "?";
    if (response.status !== 200 || !text.includes("data: [DONE]") || text.includes('"error"')) {
      wrong.push(`${worker}: ${response.status} ${text.slice(-300)}`);
    }
    answered.set(worker, (answered.get(worker) ?? 0) + 1);
  };
  const client = async () => {
    while (!isOver) await ask().catch((error: unknown) => void wrong.push(String(error)));
  };
  const all = Promise.all(Array.from({ length: clients }, client));
  return {
    answered,
    async stop() {
      isOver = true;
      await all;
      return wrong;
    },
  };
}

const isLinux = process.platform === "linux";

test.skipIf(!isLinux)("a configuration file alone runs a worker as it says", async () => {
  using dir = tempDir();
  const file = path.join(dir.path, "worker.toml");
  const mark = crypto.randomUUID();
  writeFileSync(path.join(dir.path, "more.env"), "FROM_FILE=a b\nMARK=other\n");
  writeFileSync(
    file,
    [
      `head = "${sessions}"`,
      `command = ${JSON.stringify(engine("config-only"))}`,
      'name = "from-config"',
      'cwd = "."',
      'env-file = "more.env"',
      "max-in-flight = 7",
      "[env]",
      `MARK = "${mark}"`,
    ].join("\n"),
  );
  await using worker = llmnode(["join", "--config", file], { PORT: "1", API_KEY: "k" });
  expect(await untilReady("config-only", worker)).toEqual(["from-config"]);
  const pid = engineWith(`MARK=${mark}`);
  expect(readlinkSync(`/proc/${pid}/cwd`)).toBe(dir.path);
  expect([variable(pid, "FROM_FILE"), variable(pid, "PORT"), variable(pid, "API_KEY")]).toEqual([
    ...["a b", undefined, undefined],
  ]);
  expect(worker.stderr()).toContain("the engine is not given API_KEY and PORT of this shell");
  expect(await (await fetch(`${url}/api/v1/status`)).text()).toContain('"max_in_flight":7,');
  worker.kill("SIGTERM");
  expect((await worker.finished).code).toBe(0);
  expect(isRunning(pid)).toBe(false);
});

test.skipIf(!isLinux)("secrets reach the engine and stand in no command line", async () => {
  using dir = tempDir();
  const secrets = [0, 1, 2, 3].map(() => crypto.randomUUID());
  const [typed = "", inherited = "", filed = "", variabled = ""] = secrets;
  const file = path.join(dir.path, "secrets.env");
  writeFileSync(file, `FILED=${filed}\n`);
  const args = ["--env", `TYPED=${typed}`, "--env=INHERITED", "--env-file", file];
  const env = { INHERITED: inherited, LLMNODE_SET_VARIABLED: variabled };
  await using worker = join("secrets", args, env);
  await untilReady("secrets", worker);
  const pid = engineWith(`TYPED=${typed}`);
  const names = ["TYPED", "INHERITED", "FILED", "VARIABLED"];
  expect(names.map((name) => variable(pid, name))).toEqual(secrets);
  for (const secret of secrets) expect(commandLinesWith(secret)).toEqual([]);
  worker.kill("SIGTERM");
  const { code, stdout, stderr } = await worker.finished;
  expect(code).toBe(0);
  for (const secret of secrets) expect(stdout + stderr).not.toContain(secret);
});

test.each(["SIGUSR1", "--until"])("%s: leaves under load, and no request is lost", async (how) => {
  const model = `leaves-${how}`;
  const began = performance.now();
  await using staying = join(model, ["--name", `stays-${how.replace("--", "")}`]);
  const [stays = ""] = await untilReady(model, staying);
  const load = startLoad(model, 6);
  // To leave takes at most 1 s for requests, 15 + 5 + 5 s for the engine and 2 s.
  const spareMs = Math.max(4000, 5 * (performance.now() - began));
  const until = Date.now() + 28_000 + spareMs;
  const time = new Date(until).toISOString();
  const args = how === "SIGUSR1" ? [] : ["--until", time, "--drain-timeout", "1s"];
  await using leaving = join(model, ["--name", `goes-${how.replace("--", "")}`, ...args]);
  const names = await untilReady(model, leaving, 2);
  const goes = names.find((name) => name !== stays) ?? "";
  await waitFor(() => (load.answered.get(goes) ?? 0) > 2, { what: "answers of both", ...SLOW });
  if (how === "SIGUSR1") leaving.kill("SIGUSR1");
  const { code, stderr } = await leaving.finished;
  const endedAt = Date.now();
  const before = load.answered.get(stays) ?? 0;
  await waitFor(() => (load.answered.get(stays) ?? 0) > before + 3, { what: "more answers" });
  expect([await load.stop(), code]).toEqual([[], 0]);
  expect(await readyWorkers(model)).toEqual([stays]);
  if (how === "SIGUSR1") expect(stderr).toContain("leaving, as SIGUSR1 asks");
  else {
    expect(stderr).toContain(`leaving now, to be stopped in time" until=${time}`);
    expect(endedAt).toBeLessThan(until);
  }
});

test.skipIf(!isLinux)(
  "SIGUSR2 ends the worker alone, the next one goes on with its engine",
  async () => {
    const mark = crypto.randomUUID();
    const args = ["--name", "handed-over", "--env", `MARK=${mark}`];
    await using first = join("handed-over", args);
    await untilReady("handed-over", first);
    const pid = engineWith(`MARK=${mark}`);
    first.kill("SIGUSR2");
    expect((await first.finished).code).toBe(0);
    expect(isRunning(pid)).toBe(true);
    await using second = join("handed-over", args);
    await untilReady("handed-over", second);
    expect(engineWith(`MARK=${mark}`)).toBe(pid);
    second.kill("SIGTERM");
    expect((await second.finished).code).toBe(0);
    expect(isRunning(pid)).toBe(false);
  },
);

test("what cannot be is told in one line with exit code 2, and nothing starts", async () => {
  using dir = tempDir();
  const file = path.join(dir.path, "secrets.env");
  writeFileSync(file, "HF_TOKEN\n");
  const started = path.join(dir.path, "started");
  const rows: [string[], string | RegExp][] = [
    [["--config", "/no/such.toml"], "error: /no/such.toml cannot be read: there is no such file"],
    [["--env-file", file], `error: ${file}:1 has no "=": write NAME=value, or`],
    [["--env", "NOT_SET_HERE"], "error: --env NOT_SET_HERE: it is not set here; export it first"],
    [["--env", "A B=x"], "error: --env needs NAME=value or NAME"],
    [["--label", "rack"], 'error: --label needs key=value, not "rack"'],
    [["--restart", "maybe"], "error: --restart needs one of always, on-failure, no"],
    [["--until", "2001-01-01T00:00:00Z"], "error: --until is in the past: 2001-01-01T00"],
    [
      ["--until", "+20s"],
      /^error: the time of --until is in (20|19|1\d)s, and leaving takes up to /,
    ],
    [["--gpus", "0,x"], 'error: --gpus: "x" names no GPU'],
    [["--cwd", "/no/such"], "error: the working directory /no/such does not exist"],
  ];
  const ended = await Promise.all(
    rows.map(([args]) =>
      runProcess([process.execPath, MAIN, "join", sessions, ...args, "--", "touch", started], {
        env: environment(),
        ...SLOW,
      }),
    ),
  );
  for (const [i, [args, message]] of rows.entries()) {
    const { code, stderr = "" } = ended[i] ?? {};
    const lines = stderr.split("\n");
    expect([args, code]).toEqual([args, 2]);
    if (typeof message === "string") expect(lines[0]).toStartWith(message);
    else expect(lines[0]).toMatch(message);
    expect(lines.filter((line) => line.startsWith("error:")).length).toBe(1);
  }
  expect(readdirSync(dir.path)).toEqual(["secrets.env"]);
});
