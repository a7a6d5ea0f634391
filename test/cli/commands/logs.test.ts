import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { appendFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { logsCommand, readQuery } from "../../../src/cli/commands/logs.ts";
import { readLogEvents } from "../../../src/cli/logs/events.ts";
import { createLogView } from "../../../src/cli/logs/view.ts";
import { createOptions } from "../../../src/cli/base/options.ts";
import type { Output } from "../../../src/cli/base/terminal.ts";
import type { LogEvent } from "../../../src/protocol/engine-log.ts";
import { LlmnodeError } from "../../../src/protocol/errors.ts";
import { FAST, startTestHead, type TestHead } from "../../helpers/cluster.ts";
import { ownEnvironment } from "../../helpers/environment.ts";
import { runProcess, spawnProcess } from "../../helpers/process.ts";
import { waitFor } from "../../helpers/wait.ts";
import { startTestWorker, tempDir } from "../../helpers/worker.ts";

const MAIN = resolve(import.meta.dir, "../../../src/main.ts");
let home = "";

beforeAll(() => {
  home = mkdtempSync(join(tmpdir(), "llmnode-logs-"));
});
afterAll(() => rmSync(home, { recursive: true, force: true }));

const environment = (head: TestHead) => ownEnvironment(home, { LLMNODE_HEAD: head.url });

const command = (args: string[]) => [process.execPath, MAIN, "logs", ...args];

function logs(head: TestHead, ...args: string[]) {
  return runProcess(command(args), { env: environment(head), timeoutMs: 20_000 });
}

/** Prints its number, then stays; the first run crashes. */
const SCRIPT = `n=$(cat n 2>/dev/null || echo 0); n=$((n+1)); echo $n >n; echo "run $n"
  [ $n -gt 1 ] || exit 1; exec sleep 60`;

async function startCluster() {
  await using stack = new AsyncDisposableStack();
  const dir = stack.use(tempDir());
  const head = stack.use(await startTestHead(FAST));
  const start = async () => {
    const worker = await startTestWorker(head, dir.path, {
      name: "gpu-1",
      engine: { argv: ["sh", "-c", SCRIPT] },
      cwd: dir.path,
      port: 1,
      settings: { logs: { pollMs: 10, beatMs: 100 } },
    });
    await waitFor(async () => {
      const state = (await head.status()).workers[0]?.state ?? "left";
      return !["stale", "lost", "left"].includes(state);
    });
    return worker;
  };
  const worker = stack.use(await start());
  await waitFor(() => worker.output.includes("run 2"));
  const [file = ""] = [...new Bun.Glob("workers/*/*/engine.log").scanSync({ cwd: dir.path })];
  const rest = stack.move();
  return {
    head,
    worker,
    start,
    file: join(dir.path, file),
    [Symbol.asyncDispose]: () => rest.disposeAsync(),
  };
}

test("the whole log, its end, the run before, and JSON", async () => {
  await using cluster = await startCluster();
  const { head } = cluster;
  const [whole, tail, previous, json, missing] = [
    await logs(head, "gpu-1"),
    await logs(head, "gpu-1/1", "--tail", "1"),
    await logs(head, "gpu-1", "--previous"),
    await logs(head, "gpu-1", "--json", "--since", "1h"),
    await logs(head, "gpu-2"),
  ];
  expect(whole.stdout).toMatch(/^run 1\n\(the engine was started here, \S+Z\)\nrun 2\n$/);
  expect([whole.code, whole.stderr]).toEqual([0, ""]);
  expect(tail.stdout).toBe("run 2\n");
  expect(previous.stdout).toBe("run 1\n");
  const events = json.stdout.trimEnd().split("\n");
  expect(events.map((line): unknown => JSON.parse(line))).toMatchObject([
    { type: "line", text: "run 1" },
    { type: "run" },
    { type: "line", text: "run 2" },
  ]);
  expect([missing.code, missing.stdout]).toEqual([5, ""]);
  expect(missing.stderr).toBe(
    "error: there is no worker gpu-2\n  did you mean   llmnode logs gpu-1\n  workers: gpu-1\n",
  );
});

test("a follower waits for a worker that goes, and goes on where it was; Ctrl-C is 130", async () => {
  await using cluster = await startCluster();
  const { head } = cluster;
  await using child = spawnProcess(command(["gpu-1", "-f", "--tail", "1"]), {
    env: environment(head),
  });
  await child.waitForLine("run 2");
  await appendFile(cluster.file, "last words\n");
  await child.waitForLine("last words");
  await cluster.worker.worker.stop();
  await child.waitForLine(/waiting until it is back, Ctrl-C ends this/);
  const gone = await logs(head, "gpu-1");
  expect([gone.code, gone.stdout, gone.stderr]).toEqual([1, "", "error: gpu-1 has left\n"]);
  await using _again = await cluster.start();
  await child.waitForLine("run 3");
  expect(child.stderr()).toContain("(gpu-1 is back)");
  const out = child.stdout();
  expect(out).toMatch(/^run 2\nlast words\n\(the engine was started here, \S+\)\nrun 3\n$/);
  child.kill("SIGINT");
  expect((await child.finished).code).toBe(130);
});

test("a reader that has had enough ends it silently", async () => {
  await using cluster = await startCluster();
  await appendFile(cluster.file, "much\n".repeat(200_000));
  const words = command(["gpu-1", "--tail", "all"]).join(" ");
  const { code, stdout, stderr } = await runProcess(
    ["bash", "-c", `${words} | head -n 1; echo "\${PIPESTATUS[0]}"`],
    { env: environment(cluster.head), timeoutMs: 20_000 },
  );
  expect([code, stdout]).toEqual([0, "run 1\n0\n"]);
  // A slow machine may say that it waits for the head; nothing says that a pipe has closed.
  expect(stderr.replace(/^waiting for the head .*\n/gm, "")).toBe("");
});

test("a slow reader of the whole log gets all of it", async () => {
  await using cluster = await startCluster();
  await appendFile(cluster.file, Array.from({ length: 100_000 }, (_, i) => `n ${i}\n`).join(""));
  const words = command(["gpu-1", "--tail", "100000"]).join(" ");
  const { stdout } = await runProcess(["bash", "-c", `${words} | (sleep 1; md5sum)`], {
    env: environment(cluster.head),
    timeoutMs: 20_000,
  });
  const expected = new Bun.CryptoHasher("md5");
  for (let i = 0; i < 100_000; i += 1) expected.update(`n ${i}\n`);
  expect(stdout).toStartWith(expected.digest("hex"));
});

test("what is asked, by the words", () => {
  const read = (flags: Record<string, string>) =>
    readQuery(
      createOptions(logsCommand.options, {
        flags: new Map(Object.entries(flags).map(([flag, value]) => [flag, [value]])),
        env: {},
      }),
    );
  expect(read({})).toEqual({
    follow: false,
    tail: 200,
    sinceMs: null,
    previous: false,
    from: null,
  });
  expect(read({ tail: "all", follow: "true" })).toMatchObject({ tail: null, follow: true });
  expect(read({ since: "15m" })).toMatchObject({ tail: null, sinceMs: 900_000 });
  expect(read({ since: "15m", tail: "0" })).toMatchObject({ tail: 0, sinceMs: 900_000 });
  for (const flags of [
    { tail: "many" },
    { tail: "-1" },
    { since: "15" },
    { previous: "true", follow: "true" },
  ]) {
    expect(() => read(flags as Record<string, string>)).toThrow(LlmnodeError);
  }
});

test("what comes is believed only so far", async () => {
  const pieces = [
    '{"type":"line","text":"a\\u001b[31mb"}\n\n{"ty',
    'pe":"run"}\n[]\n{"type":"new"}\nx\n',
  ];
  async function* body(texts: readonly string[]) {
    for (const text of texts) yield new TextEncoder().encode(text);
  }
  const events: LogEvent[] = [];
  for await (const some of readLogEvents(body(pieces))) events.push(...some);
  expect(events).toEqual([
    { type: "line", text: "ab" },
    { type: "run", run: "", started_at: "" },
  ]);
  const endless = readLogEvents(body(Array.from({ length: 40 }, () => "x".repeat(10_000))));
  const failure = await (async () => {
    for await (const _ of endless);
  })().then(
    () => null,
    (error: unknown) => error,
  );
  expect(failure).toBeInstanceOf(LlmnodeError);
});

test("a terminal shows progress in one line, a pipe not at all", () => {
  const show = (columns: number | null, json = false) => {
    let text = "";
    const out: Output = {
      write: (more) => void (text += more),
      flush: async () => {},
      isGone: false,
    };
    const terminal = { out, err: out, outIsTty: columns !== null, errIsTty: false, columns };
    const view = createLogView({ ...terminal, color: true }, { json });
    view.show({ type: "live", text: "10% of it" });
    view.show({ type: "live", text: "20%" });
    view.show({ type: "line", text: "done" });
    view.show({ type: "left_out", lines: 1234, lost_bytes: 2048 });
    view.show({ type: "position", position: "x:1" });
    view.remark("(remark)");
    return text;
  };
  const notices =
    "(1234 lines left out here: read too slowly)\n(2.0 KiB lost here: they came faster than they can be kept)\n(remark)\n";
  expect(show(6)).toBe(`10% o\r\u001b[K20%\r\u001b[Kdone\n${notices}`);
  expect(show(null)).toBe(`done\n${notices}`);
  expect(show(80, true)).toBe(
    '{"type":"line","text":"done"}\n{"type":"left_out","lines":1234,"lost_bytes":2048}\n(remark)\n',
  );
});
