import { expect, setDefaultTimeout, test } from "bun:test";
import { ownEnvironment } from "../helpers/environment.ts";
import { type RealHead, SOURCES, startRealHead } from "../helpers/real-head.ts";
import { spawnProcess, type TestProcess } from "../helpers/process.ts";
import { type TempDir, tempDir } from "../helpers/temp.ts";
import { waitFor } from "../helpers/wait.ts";

setDefaultTimeout(90_000);

const startHead = (home: TempDir, options: { args?: string[]; at?: RealHead } = {}) =>
  startRealHead({ command: SOURCES, home: home.path, ...options });

function join(head: RealHead, home: TempDir, name: string): TestProcess {
  const speed = ["--ttft", "20ms", "--itl", "10ms", "--load-time", "500ms"];
  const engine = ["--", "llmnode", "sim", "--port", "0", "--model", "m", ...speed];
  return spawnProcess([...SOURCES, "join", head.sessions, "--name", name, ...engine], {
    env: ownEnvironment(home.path),
    // Without its head it would wait for one before it leaves.
    graceMs: 50,
  });
}

interface Row {
  name: string;
  state: string;
  engines: { pid: number | null; state: string }[];
}

async function rows(head: RealHead): Promise<Row[]> {
  const response = await fetch(`${head.url}/api/v1/status`);
  return ((await response.json()) as { workers: Row[] }).workers;
}

async function pids(head: RealHead): Promise<(number | null | undefined)[]> {
  return (await rows(head)).map(({ engines }) => engines[0]?.pid);
}

const ready = (head: RealHead, count: number) =>
  waitFor(
    async () => {
      const response = await fetch(`${head.url}/api/v1/status`);
      const { models } = (await response.json()) as { models: { name: string; ready: number }[] };
      return models.find(({ name }) => name === "m")?.ready === count;
    },
    { what: `${count} replicas`, timeoutMs: 30_000 },
  );

function chat(head: { url: string }, maxTokens = 40, signal?: AbortSignal): Promise<Response> {
  const body = {
    model: "m",
    stream: true,
    max_tokens: maxTokens,
    messages: [{ role: "user", content: "hi" }],
  };
  return fetch(`${head.url}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
    ...(signal ? { signal } : {}),
  });
}

/** What is wrong with an answer, in words; null: nothing. */
async function fault(answer: Promise<Response>): Promise<string | null> {
  try {
    const response = await answer;
    const text = await response.text();
    if (response.status !== 200) return `${response.status} ${text}`;
    if (text.includes('"error"')) return text.slice(-300);
    return text.includes("[DONE]") ? null : `cut off: ${text.slice(-100)}`;
  } catch (error) {
    return String(error);
  }
}

interface Load {
  faults: string[];
  answers: { worker: string | null; startedAt: number }[];
  stop(): Promise<void>;
}

/** Clients that stream one answer after the other until they are stopped. */
function startLoad(head: { url: string }, clients = 4): Load {
  let isOver = false;
  const load: Load = {
    faults: [],
    answers: [],
    async stop() {
      isOver = true;
      await Promise.all(running);
    },
  };
  const client = async () => {
    while (!isOver) {
      const startedAt = performance.now();
      const answer = chat(head);
      const found = await fault(
        answer.then((response) => {
          const worker = response.headers.get("x-llmnode-worker");
          load.answers.push({ worker, startedAt });
          return response;
        }),
      );
      if (found !== null) load.faults.push(found);
    }
  };
  const running = Array.from({ length: clients }, client);
  return load;
}

test("a rolling restart of all workers under load loses nothing", async () => {
  using home = tempDir();
  await using head = await startHead(home);
  await using _a = join(head, home, "w-a");
  await using _b = join(head, home, "w-b");
  await ready(head, 2);
  const before = await pids(head);
  const load = startLoad(head);
  await waitFor(() => load.answers.length > 8);
  const { code, stderr } = await head.llmnode("restart", "w-a", "w-b");
  await waitFor(async () => (await rows(head)).every(({ state }) => state === "ready"));
  await load.stop();
  expect([code, load.faults]).toEqual([0, []]);
  expect(stderr).toContain("w-b: restarted, it takes requests again");
  const after = await pids(head);
  expect(after.filter((pid) => before.includes(pid))).toEqual([]);
  expect(new Set(load.answers.slice(-40).map(({ worker }) => worker)).size).toBe(2);
});

test("the last replica restarts by --yes while its requests wait", async () => {
  using home = tempDir();
  await using head = await startHead(home);
  await using _ = join(head, home, "w-a");
  await ready(head, 1);
  expect((await head.llmnode("restart", "w-a")).code).toBe(6);
  const load = startLoad(head, 2);
  await waitFor(() => load.answers.length > 2);
  const { code } = await head.llmnode("restart", "w-a", "--yes");
  await load.stop();
  expect([code, load.faults]).toEqual([0, []]);
});

test("a killed head is back with its drains; engines run on, and requests wait for them", async () => {
  using home = tempDir();
  let head = await startHead(home);
  await using _a = join(head, home, "w-a");
  await using drained = join(head, home, "w-b");
  await ready(head, 2);
  const before = await pids(head);
  expect((await head.llmnode("drain", "w-b", "-m", "new driver")).code).toBe(0);
  await drained.waitForLine(/the head sends no new requests.*drain by .*: new driver/);
  const load = startLoad(head);
  await waitFor(() => load.answers.length > 4);
  head.process.kill("SIGKILL");
  await head.process.finished;
  await load.stop();
  head = await startHead(home, { at: head });
  await using _head = head;
  const faults = await Promise.all(Array.from({ length: 8 }, () => fault(chat(head))));
  expect(faults.filter((one) => one !== null)).toEqual([]);
  // A worker is there before its engine: each tells of it in a message of its own.
  await waitFor(async () => {
    const known = await pids(head);
    return known.length === 2 && !known.includes(undefined);
  });
  const states = (await rows(head)).map(({ name, state }) => `${name} ${state}`);
  expect(states.sort()).toEqual(["w-a ready", "w-b drained"]);
  expect((await pids(head)).toSorted()).toEqual(before.toSorted());
  expect((await head.llmnode("undrain", "w-b")).code).toBe(0);
  await ready(head, 2);
});

test("a head that is stopped serves on, then refuses, and lets what runs end", async () => {
  using home = tempDir();
  await using head = await startHead(home, { args: ["--shutdown-delay", "1s"] });
  await using worker = join(head, home, "w-a");
  await ready(head, 1);
  const running = chat(head, 400);
  const slow = fault(running);
  await running;
  head.process.kill("SIGTERM");
  const health = (path: string) => fetch(`${head.url}/health/${path}`);
  await waitFor(async () => (await health("ready")).status === 503);
  expect((await health("live")).status).toBe(200);
  expect(await fault(chat(head, 2))).toBeNull();
  const refused = await waitFor(async () => {
    const response = await chat(head, 2);
    const text = await response.text();
    return response.status === 503 ? { response, text } : null;
  });
  expect(refused.text).toContain('"code":"shutting_down"');
  expect(refused.response.headers.get("retry-after")).toBe("1");
  expect(refused.response.headers.get("connection")).toBe("close");
  expect(await slow).toBeNull();
  expect((await head.process.finished).code).toBe(0);
  // Its worker is with the next head at once, and its engine has not noticed.
  await using next = await startHead(home, { at: head });
  expect(await fault(chat(next, 2))).toBeNull();
  expect(worker.output()).toContain("the engine keeps running");
});

test("a second signal ends what runs with an error in the stream, and the head is done", async () => {
  using home = tempDir();
  await using head = await startHead(home);
  await using _ = join(head, home, "w-a");
  await ready(head, 1);
  const running = await chat(head, 4000);
  head.process.kill("SIGTERM");
  await waitFor(async () => (await fetch(`${head.url}/health/ready`)).status === 503);
  await Bun.sleep(250); // sooner it would be the same signal come twice
  head.process.kill("SIGTERM");
  const text = await running.text();
  expect(text).toContain('"error"');
  expect(text).not.toContain("[DONE]");
  expect((await head.process.finished).code).toBe(0);
});

test("a worker that leaves under load gets no request after its word, and loses none", async () => {
  using home = tempDir();
  await using head = await startHead(home);
  await using leaving = join(head, home, "w-a");
  await using _b = join(head, home, "w-b");
  await ready(head, 2);
  const load = startLoad(head);
  await waitFor(() => load.answers.some(({ worker }) => worker === "w-a"));
  leaving.kill("SIGTERM");
  await waitFor(async () => {
    const state = (await rows(head)).find(({ name }) => name === "w-a")?.state;
    return state !== "ready";
  });
  const knownAt = performance.now();
  expect((await leaving.finished).code).toBe(0);
  await load.stop();
  expect(load.faults).toEqual([]);
  const after = load.answers.filter(
    ({ worker, startedAt }) => worker === "w-a" && startedAt > knownAt,
  );
  expect(after).toEqual([]);
  expect((await rows(head)).find(({ name }) => name === "w-a")?.state).toBe("left");
});

test("what runs at a drain's deadline goes on elsewhere, as one answer", async () => {
  using home = tempDir();
  await using head = await startHead(home);
  await using _a = join(head, home, "w-a");
  await using _b = join(head, home, "w-b");
  await ready(head, 2);
  const running = chat(head, 300);
  const worker = (await running).headers.get("x-llmnode-worker") ?? "";
  const whole = fault(running);
  const { code, stderr } = await head.llmnode("drain", worker, "--deadline", "300ms");
  expect(code).toBe(124);
  expect(stderr).toContain("1 request had not ended by the deadline and was ended");
  expect(await whole).toBeNull();
});

test("a command that waits for a drain waits for its head as well", async () => {
  using home = tempDir();
  await using head = await startHead(home);
  await using _ = join(head, home, "w-a");
  await ready(head, 1);
  const running = await chat(head, 4000);
  const argv = [...SOURCES, "drain", "w-a", "--force", "--head", head.url];
  await using waiting = spawnProcess(argv, { env: ownEnvironment(home.path) });
  await waiting.waitForLine("w-a: draining, 1 in flight");
  head.process.kill("SIGKILL");
  await waiting.waitForLine("(the head does not answer; waiting until it is back)");
  await running.text().catch(() => "cut off");
  await using _next = await startHead(home, { at: head });
  const { code, stderr } = await waiting.finished;
  expect([code, stderr]).toEqual([0, expect.stringMatching(/\nw-a: drained( \(it is .*\))?\n$/)]);
});
