// `llmnode top`, the compiled binary, on a terminal that is none of ours. Without tmux these are
// skipped, but not where all is tested.

import { beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { binaryPath } from "../helpers/binary.ts";
import { spawnProcess } from "../helpers/process.ts";
import { tempDir } from "../helpers/temp.ts";
import { hasTmux, startTmux, type Tmux } from "../helpers/tmux.ts";
import { waitFor } from "../helpers/wait.ts";
import { startFakeHead } from "../top/fake-head.ts";
import { cluster, manyWorkers, type SampleCluster } from "../top/sample.ts";

setDefaultTimeout(60_000);

const canRun = hasTmux() || (process.env["CI"] ?? "") !== "";
if (!canRun) process.stderr.write("skipped: tmux is not installed\n");

let binary = "";
beforeAll(async () => {
  if (canRun) binary = await binaryPath();
}, 180_000);

const EMPTY: SampleCluster = { workers: [], models: [], requests: [], events: [] };
/** CI would print a snapshot instead. */
const ENV = { CI: "", LLMNODE_HEAD: "", TZ: "UTC", HOME: "/nonexistent" };

async function top(
  url: string,
  options: { before?: string; env?: Record<string, string> } = {},
): Promise<Tmux> {
  const { before = "", env = {} } = options;
  const command = `${before}${binary} top --head ${url}; echo "over: $?"`;
  return await startTmux(command, { env: { ...ENV, ...env } });
}

async function isGivenBack(tmux: Tmux): Promise<string> {
  return await tmux.tell("#{alternate_on} #{cursor_flag} #{wrap_flag}");
}

describe.skipIf(!canRun)("top in tmux", () => {
  test("an empty cluster says how to fill it", async () => {
    await using head = startFakeHead(EMPTY);
    await using tmux = await top(head.url);
    const text = await tmux.shows("No workers have joined yet.");
    expect(text).toContain("llmnode join 10.0.0.5");
    expect(text).toContain("llmnode sim --model demo");
    expect(text).toContain("waiting for the first worker...");
  });

  test("a lost worker is at the top, in red, and its page says more", async () => {
    await using head = startFakeHead();
    await using tmux = await top(head.url);
    await tmux.shows(/>gpu-09 +x lost 42s/);
    // oxlint-disable-next-line no-control-regex
    expect(await tmux.painted()).toMatch(/\u001b\[[\d;]*31[\d;]*m[^\n]*1 lost/);
    await tmux.keys("Enter");
    await tmux.shows("Workers > gpu-09");
    await tmux.keys("Escape");
    await tmux.shows("[1 Workers]");
    await tmux.keys("q");
    await tmux.shows("over: 0");
    expect(await isGivenBack(tmux)).toBe("0 1 1");
  });

  test("200 workers, paged through, at two sizes", async () => {
    await using head = startFakeHead(manyWorkers(200));
    await using tmux = await top(head.url);
    await tmux.shows(/1-\d+ of 200/);
    await tmux.keys("G");
    await tmux.shows(">gpu-199");
    await tmux.keys("g", "PageDown");
    await tmux.shows(/>gpu-00\d/);
    await tmux.resize(160, 45);
    const text = await tmux.shows("-- models ---");
    expect(text.split("\n")[0]?.length).toBe(160);
    await tmux.resize(46, 6);
    await tmux.shows(/^193\/200 ready 2 lost/);
  });

  test("the head is killed and comes back", async () => {
    const first = startFakeHead();
    const port = Number(new URL(first.url).port);
    await using tmux = await top(first.url);
    await tmux.shows("LIVE");
    await first[Symbol.asyncDispose]();
    const text = await tmux.shows(/STALE .*\n!! head unreachable: .*Retry/);
    expect(text).toContain("gpu-05");
    await using second = startFakeHead(cluster(), port);
    second.id = "head-b";
    await tmux.shows("LIVE");
    expect(await tmux.screen()).not.toContain("!!");
  });

  test("a key that is refused is told, and not fatal", async () => {
    await using head = startFakeHead();
    head.status = 401;
    await using tmux = await top(head.url);
    await tmux.shows("!! the head refuses: no key, no view");
    await tmux.keys("C-c");
    await tmux.shows("over: 0");
    expect(await isGivenBack(tmux)).toBe("0 1 1");
  });

  test("a terminal that says it is 0 by 0 is 80 by 24", async () => {
    await using head = startFakeHead();
    await using tmux = await top(head.url, { before: "stty rows 0 cols 0; " });
    await tmux.shows(/>gpu-09 +x lost 42s/);
    await tmux.shows("z freeze  ? help  q");
  });

  test.each([
    ["TERM", 143],
    ["INT", 130],
    ["HUP", 129],
  ] as const)("SIG%s gives the terminal back", async (signal, code) => {
    await using head = startFakeHead();
    await using tmux = await top(head.url);
    await tmux.shows("gpu-09");
    const shell = await tmux.tell("#{pane_pid}");
    const children = await Bun.file(`/proc/${shell}/task/${shell}/children`).text();
    process.kill(Number(children.trim()), `SIG${signal}`);
    await tmux.shows(`over: ${code}`);
    expect(await isGivenBack(tmux)).toBe("0 1 1");
  });

  test("with a real head: a worker is drained and takes requests again", async () => {
    using home = tempDir();
    const env = { HOME: home.path, LLMNODE_DATA: home.path };
    await using head = spawnProcess(
      [binary, "head", "--listen", "127.0.0.1:0", "--session-listen", "127.0.0.1:0"],
      { env },
    );
    const [, url = "", sessions = ""] = await head.waitForLine(/url=(\S+) sessions=(\S+)/, {
      timeoutMs: 30_000,
    });
    await using tmux = await top(url, { env });
    await tmux.shows("No workers have joined yet.");
    await using worker = spawnProcess(
      [
        binary,
        "join",
        sessions,
        "--name",
        "box",
        "--",
        "llmnode",
        "sim",
        "--port",
        "0",
        "--model",
        "m",
      ],
      { env },
    );
    await tmux.shows(/>box +\* ready +m /);
    expect(worker.pid).toBeGreaterThan(0);
    await tmux.keys("D");
    await tmux.shows("Drain box?");
    await tmux.keys("y");
    await tmux.shows("it will have NO ready replica after this");
    await tmux.keys("m", "Enter");
    await tmux.shows(/>box +- drained/);
    await tmux.keys("U", "Enter");
    await tmux.shows(/>box +\* ready/);
    await tmux.keys("4");
    await tmux.shows(/\[4 Events\][^]*drained/);
    await tmux.keys("1");
    await tmux.shows(/\[1 Workers\][^]*>box +\* ready/);
    await tmux.keys("l");
    await tmux.shows("logs box/1");
    await tmux.keys("q");
    await tmux.shows("over: 0");
    await waitFor(async () => (await isGivenBack(tmux)) === "0 1 1");
  });
});
