import { describe, expect, test } from "bun:test";
import type { WatchFrame } from "../../src/protocol/watch-json.ts";
import { changesText, snapshotLines } from "../../src/top/plain.ts";
import { textOf } from "../../src/top/text/styled.ts";
import { runProcess, spawnProcess } from "../helpers/process.ts";
import { startFakeHead } from "./fake-head.ts";
import { cluster, events, frame, manyWorkers } from "./sample.ts";
import { ASCII } from "./show.ts";

const MAIN = new URL("../../src/main.ts", import.meta.url).pathname;
const ENV = { LLMNODE_HEAD: undefined, CI: undefined, TZ: "UTC", HOME: "/nonexistent" };

async function top(url: string, ...words: string[]) {
  return await runProcess([process.execPath, MAIN, "top", "--head", url, ...words], { env: ENV });
}

describe("without a terminal", () => {
  test("one snapshot of all workers and models, without a sequence in it", async () => {
    await using head = startFakeHead(manyWorkers(200));
    const { code, stdout, stderr } = await top(head.url);
    expect([code, stderr]).toEqual([0, ""]);
    expect(stdout.split("\n").filter((line) => / gpu-\d{3} /.test(line))).toHaveLength(200);
    expect(stdout).toContain("Qwen/Qwen3-8B");
    expect(stdout).not.toContain("\u001b");
  });

  test.each([
    ["requests", "r7f3a91c"],
    ["models", "fast -> Qwen/Qwen3-8B"],
    ["events", "silent for 15s"],
  ])("the view %s", async (view, text) => {
    await using head = startFakeHead();
    const { stdout } = await top(head.url, "--once", "--view", view);
    expect(stdout).toContain(text);
    expect(head.queries.at(-1)?.view).toBe(view as WatchFrame["view"]);
  });

  test("--json is one object, as the head sent it", async () => {
    await using head = startFakeHead();
    const { code, stdout } = await top(head.url, "--json");
    const value = JSON.parse(stdout) as WatchFrame;
    expect(code).toBe(0);
    expect(value).toMatchObject({ schema: "llmnode.watch/1", view: "workers", total: 9 });
    expect(stdout.split("\n")).toHaveLength(2);
  });

  test("--json --watch is one object a line, as many as are wanted", async () => {
    await using head = startFakeHead();
    const words = ["--json", "--watch", "-n", "3", "--interval", "200ms"];
    const { code, stdout } = await top(head.url, ...words);
    const frames = stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as WatchFrame);
    expect([code, frames.map((one) => one.frame)]).toEqual([0, [1, 2, 3]]);
  });

  test("--watch appends one snapshot after the other until it is told to end", async () => {
    await using head = startFakeHead();
    const words = ["top", "--head", head.url, "--watch", "--interval", "200ms"];
    await using child = spawnProcess([process.execPath, MAIN, ...words], { env: ENV });
    await child.waitForLine(/^-- \d{4}-/);
    await child.waitForLine(/^ gpu-07/);
    child.kill("SIGINT");
    expect((await child.finished).code).toBe(130);
    expect(child.stdout()).not.toContain("\u001b");
  });

  test("nobody reads any more: it ends quietly", async () => {
    await using head = startFakeHead();
    const command = `"${process.execPath}" "${MAIN}" top --head ${head.url} --json --watch --interval 200ms | head -n 1`;
    const done = await runProcess(["sh", "-c", command], { env: ENV });
    expect([done.code, done.stderr]).toEqual([0, ""]);
    expect(JSON.parse(done.stdout)).toMatchObject({ frame: 1 });
  });

  test.each<[string, number, (head: ReturnType<typeof startFakeHead>) => void]>([
    ["not allowed", 4, (head) => void (head.status = 403)],
    ["no head", 1, (head) => void (head.status = 404)],
  ])("%s ends it with its code", async (_, code, make) => {
    await using head = startFakeHead();
    make(head);
    const done = await top(head.url, "--once");
    expect([done.code, done.stdout]).toEqual([code, ""]);
    expect(done.stderr).toStartWith("error: ");
  });

  test("a head that is not there", async () => {
    const { code, stderr } = await top("127.0.0.1:1", "--once");
    expect(code).toBe(3);
    expect(stderr).toContain("cannot reach the head");
  });

  test.each([
    [["--view", "nodes"], "--view must be one of workers, models, requests, events, not nodes"],
    [["--filter", "gpu>"], "--filter: no value for gpu (column 5)"],
    [["--interval", "1ms"], "from 200ms to 60s"],
    [["--theme", "pink"], "--theme must be one of"],
  ])("%p is said to be wrong", async (words, told) => {
    const { code, stderr } = await top("127.0.0.1:1", ...words);
    expect(code).toBe(2);
    expect(stderr).toContain(told);
  });
});

describe("for ears", () => {
  test("the whole at first, then only what happens", () => {
    const all = events();
    const first = changesText(frame(cluster()), { lastEvent: 0, isFirst: true });
    expect(first).toMatch(
      /^\d\d:\d\d:\d\d workers: 6 of 9 ready\. models: 5 of 6 ready\. requests: 201 running, 13 waiting\ngpu-09 lost 42s ago\n$/,
    );
    const later = changesText(frame(cluster(), { events: all }), { lastEvent: 2, isFirst: false });
    expect(later.trim().split("\n")).toHaveLength(2);
    expect(later).toContain("gpu-09  silent for 15s: lost");
    expect(changesText(frame(cluster()), { lastEvent: 4, isFirst: false })).toBe("");
  });

  test("--accessible draws nothing that has no name", async () => {
    await using head = startFakeHead();
    const { code, stdout } = await top(head.url, "--accessible", "-n", "1");
    expect(code).toBe(0);
    expect(stdout).toMatch(/^[\n -~]*$/);
    expect(stdout).toContain("6 of 9 ready");
  });
});

test("in ASCII there is nothing else, whatever names there are", () => {
  const [first, ...rest] = cluster().workers;
  if (!first) throw new Error("no worker");
  const sample = { ...cluster(), workers: [{ ...first, name: "工作\u202e站" }, ...rest] };
  const lines = snapshotLines(frame(sample), { width: 80, draw: ASCII });
  for (const { spans } of lines) expect(textOf(spans)).toMatch(/^[ -~]*$/);
});
