import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { createOptions } from "../../src/cli/base/options.ts";
import { commandTable } from "../../src/cli/commands.ts";
import { simCommand } from "../../src/cli/commands/sim.ts";
import { readSim } from "../../src/cli/sim/options.ts";
import { CLUSTER_LIMITS } from "../../src/cluster/state/limits.ts";
import { HEAD_DEFAULTS } from "../../src/head/options.ts";
import { SIM_DEFAULTS } from "../../src/sim/core/options.ts";
import { ownEnvironment } from "../helpers/environment.ts";
import { SOURCES, startRealHead } from "../helpers/real-head.ts";
import { runProcess, spawnProcess } from "../helpers/process.ts";
import { waitFor } from "../helpers/wait.ts";

const MAIN = resolve(import.meta.dir, "../../src/main.ts");
const SLOW = { timeoutMs: 20_000 };
let home = "";

beforeAll(() => {
  home = mkdtempSync(join(tmpdir(), "llmnode-cli-"));
});
afterAll(() => rmSync(home, { recursive: true, force: true }));

/** The environment without any setting of the person who runs the tests. */
const environment = (extra: Record<string, string> = {}) => ownEnvironment(home, extra);

function llmnode(args: string[], env: Record<string, string> = {}) {
  return runProcess([process.execPath, MAIN, ...args], { env: environment(env), ...SLOW });
}

function llmnodeStarted(args: string[], env: Record<string, string> = {}) {
  return spawnProcess([process.execPath, MAIN, ...args], { env: environment(env) });
}

const startHead = (env: Record<string, string> = {}) =>
  startRealHead({ command: SOURCES, home, env });

describe("help and version", () => {
  test("no arguments show the overview, with every command", async () => {
    const { code, stdout, stderr } = await llmnode([]);
    expect([code, stderr]).toEqual([0, ""]);
    for (const { name, summary } of commandTable().filter((one) => one.isHidden !== true))
      expect(stdout.replace(/\s+/g, " ")).toContain(` ${name} ${summary} `);
  });

  test("help <command>, <command> --help and -h are the same page", async () => {
    const pages = await Promise.all([
      llmnode(["help", "join"]),
      llmnode(["join", "--help"]),
      llmnode(["-h", "join"]),
    ]);
    expect(new Set(pages.map(({ stdout }) => stdout)).size).toBe(1);
    expect(pages[0]?.stdout).toContain(
      "Usage: llmnode join <head> [options] -- <engine command...>",
    );
    expect(pages[0]?.stdout).toContain("[default: $XDG_STATE_HOME/llmnode or");
  });

  test("version", async () => {
    expect((await llmnode(["--version"])).stdout).toMatch(
      /^llmnode \d+\.\d+\.\d+ \(bun [\d.]+, \w+-\w+\)\n$/,
    );
    expect(JSON.parse((await llmnode(["version", "--json"])).stdout)).toMatchObject({
      schema: "llmnode.version/1",
      bun: Bun.version,
    });
  });
});

describe("failures", () => {
  test.each([
    [["stauts"], 2, 'error: unknown command "stauts": did you mean "status"?\n'],
    [["status", "--chekc"], 2, "error: unknown option --chekc for status: did you mean --check?\n"],
    [["help", "hed"], 2, 'error: unknown command "hed": did you mean "head"?\n'],
    [
      ["head", "--listen", "x:y"],
      2,
      'error: --listen needs host:port, such as 0.0.0.0:8092, not "x:y"\n',
    ],
    [
      ["join", "a/b", "--", "x"],
      2,
      'error: join: "a/b" is not an address: host, host:port or [v6]:port\n',
    ],
    [
      ["join", "127.0.0.1", "--label", "x", "--", "y"],
      2,
      'error: --label needs key=value, not "x"\n',
    ],
    [["sim"], 2, "error: sim needs a model name: llmnode sim --model demo\n"],
  ] as Array<[string[], number, string]>)("%p ends with %p", async (args, code, stderr) => {
    expect(await llmnode(args)).toEqual({ code, stdout: "", stderr });
  });

  test("join without an engine says how to write it", async () => {
    const { code, stderr } = await llmnode(["join", "10.0.0.5"]);
    expect(code).toBe(2);
    expect(stderr.split("\n")[0]).toBe("error: join needs an engine");
    expect(stderr).toContain("llmnode join 10.0.0.5 -- vllm serve");
    expect(stderr).toContain("llmnode join 10.0.0.5 --attach http://127.0.0.1:11434");
  });

  test("join with two engines refuses", async () => {
    const args = ["join", "127.0.0.1", "--attach", "http://127.0.0.1:1", "--", "x"];
    expect((await llmnode(args)).stderr).toStartWith("error: either --attach or an engine command");
  });

  test("joining another machine needs a join token, and it is said how to get one", async () => {
    const { code, stderr } = await llmnode(["join", "10.0.0.5", "--", "true"]);
    expect(code).toBe(125);
    expect(stderr).toStartWith("error: joining 10.0.0.5 needs a join token\n");
    expect(stderr).toContain("llmnode join-token show");
    const cut = await llmnode(["join", "10.0.0.5", "--", "true"], { LLMNODE_TOKEN: "abc.d" });
    expect([cut.code, cut.stderr.split("\n")[0]]).toEqual([
      2,
      "error: the join token is incomplete: it has 48 characters, a dot and 43 characters",
    ]);
    const file = ["join", "10.0.0.5", "--token-file", "/no/such/file", "--", "true"];
    expect((await llmnode(file)).stderr).toStartWith("error: --token-file /no/such/file cannot");
  });

  test("a bad variable is named", async () => {
    const { code, stderr } = await llmnode(["join", "127.0.0.1", "--", "x"], {
      LLMNODE_PORT: "1e3",
    });
    expect([code, stderr]).toEqual([
      2,
      'error: LLMNODE_PORT needs a whole number from 1 to 65535, not "1e3"\n',
    ]);
  });

  test("status without a head: exit 3, and with --json the same on stderr as JSON", async () => {
    const at = ["--head", "127.0.0.1:1"];
    const plain = await llmnode(["status", ...at]);
    expect([plain.code, plain.stdout]).toEqual([3, ""]);
    expect(plain.stderr).toStartWith("error: cannot reach the head at http://127.0.0.1:1 (");
    const json = await llmnode(["status", "--json", ...at]);
    expect([json.code, json.stdout]).toEqual([3, ""]);
    expect(JSON.parse(json.stderr)).toMatchObject({
      error: { code: "head_unreachable", retryable: true },
    });
  });

  test("--debug shows where an error came from", async () => {
    expect((await llmnode(["nope"])).stderr).not.toContain("run.ts");
    expect((await llmnode(["nope", "--debug"])).stderr).toContain("run.ts");
    expect((await llmnode(["nope"], { LLMNODE_DEBUG: "1" })).stderr).toContain("run.ts");
  });

  test("a reader that leaves early is no failure", async () => {
    const command = `'${process.execPath}' '${MAIN}' help | true; '${process.execPath}' '${MAIN}' help`;
    const { code, stderr } = await runProcess(["bash", "-o", "pipefail", "-c", command], {
      env: environment(),
    });
    expect([code, stderr]).toEqual([0, ""]);
  });

  test("a missing engine program is 127, one that cannot run 126", async () => {
    const missing = await llmnode(["join", "127.0.0.1:1", "--", "no-such-engine"]);
    expect(missing.code).toBe(127);
    expect(missing.stderr).toContain("no-such-engine");
    const file = join(home, "not-a-program");
    writeFileSync(file, "text");
    const unusable = await llmnode(["join", "127.0.0.1:1", "--", file]);
    expect(unusable.code).toBe(126);
    expect(unusable.stderr).toContain(file);
  });
});

describe("defaults in the table are those of the roles", () => {
  const defaults = (name: string) => {
    const command = commandTable().find((candidate) => candidate.name === name);
    return createOptions(command?.options ?? [], { flags: new Map([["model", ["m"]]]), env: {} });
  };

  test("sim", () => {
    expect(simCommand.name).toBe("sim");
    expect(readSim(defaults("sim"))).toEqual({ ...SIM_DEFAULTS, models: ["m"] });
  });

  test("head", () => {
    expect(defaults("head").bytes("max-body-size")).toBe(HEAD_DEFAULTS.maxBodyBytes);
    expect([
      defaults("head").integer("queue-size", { min: 1, max: 1000 }),
      defaults("head").durationMs("queue-timeout"),
    ]).toEqual([CLUSTER_LIMITS.maxWaiting, CLUSTER_LIMITS.queueTimeoutMs]);
  });

  test.each([
    ["--queue-size", "0", '--queue-size needs a whole number from 1 to 1000000, not "0"'],
    ["--queue-timeout", "0", '--queue-timeout needs more than zero, not "0"'],
  ])("head %s %s is refused in one line", async (flag, value, message) => {
    const { code, stderr } = await llmnode(["head", flag, value]);
    expect([code, stderr]).toEqual([2, `error: ${message}\n`]);
  });
});

describe("the daemons", () => {
  test("a head, seen by status, stopped by a signal", async () => {
    const { process: child, url } = await startHead();
    await using head = child;
    const plain = await llmnode(["status"], { LLMNODE_HEAD: url });
    expect([plain.code, plain.stdout]).toEqual([
      0,
      `head ${url}   llmnode 0.1.0   0 workers, 0 of 0 models ready\n`,
    ]);
    expect(plain.stderr).toStartWith("no workers (yet). Add one: llmnode join 127.0.0.1 -- ");
    const json = await llmnode(["--head", url, "status", "--json"], {
      LLMNODE_HEAD: "127.0.0.1:1",
    });
    expect(JSON.parse(json.stdout)).toMatchObject({ schema: "llmnode.status/2", workers: [] });
    const check = await llmnode(["status", "--check", "--head", url]);
    expect([check.code, check.stderr.split("\n").at(-2)]).toEqual([
      7,
      "degraded: no model is ready",
    ]);
    head.kill("SIGTERM");
    expect((await head.finished).code).toBe(0);
  });

  test("on a terminal a head says what to do next, and Ctrl-C stops it", async () => {
    let screen = "";
    const head = Bun.spawn(
      [
        ...[process.execPath, MAIN, "head"],
        ...["--listen", "127.0.0.1:0", "--session-listen", "127.0.0.1:0"],
      ],
      {
        env: environment({ NO_COLOR: "1" }),
        terminal: {
          cols: 200,
          rows: 50,
          data: (_, bytes) => void (screen += new TextDecoder().decode(bytes)),
        },
      },
    );
    try {
      await waitFor(() => screen.includes("is for this machine only"), SLOW);
      expect(screen).toMatch(/OpenAI API +http:\/\/127\.0\.0\.1:\d+\/v1/);
      expect(screen).toMatch(/llmnode join 127\.0\.0\.1:\d+ -- vllm serve/);
      expect(screen).toMatch(/llmnode status --head http:\/\/127\.0\.0\.1:\d+/);
      head.terminal?.write("\u0003");
      expect(await head.exited).toBe(0);
      expect(screen).toContain("Ctrl-C again to stop now");
    } finally {
      head.kill("SIGKILL");
      await head.exited;
      head.terminal?.close();
    }
  });

  test("the banner has the join token on a terminal only", async () => {
    const dir = mkdtempSync(join(home, "banner-"));
    const args = [
      ...[process.execPath, MAIN, "head", "--listen", "127.0.0.1:0", "--session-listen", ":0"],
      ...["--data-dir", dir, "--log-format", "text"],
    ];
    let screen = "";
    const head = Bun.spawn(args, {
      env: environment({ NO_COLOR: "1" }),
      terminal: {
        cols: 300,
        rows: 50,
        data: (_, bytes) => void (screen += new TextDecoder().decode(bytes)),
      },
    });
    let token = "";
    try {
      await waitFor(() => screen.includes("llmnode status"), SLOW);
      token = readFileSync(join(dir, "head/join-token"), "utf8").trim();
      expect(screen).toMatch(
        new RegExp(`LLMNODE_TOKEN=${token} llmnode join [\\d.]+:\\d+ -- vllm serve`),
      );
      expect(screen).toContain(`--data-dir ${dir} -- vllm serve`);
    } finally {
      head.kill("SIGTERM");
      await head.exited;
      head.terminal?.close();
    }
    await using piped = spawnProcess(args, { env: environment() });
    await piped.waitForLine(
      /join token +LLMNODE_DATA=\S+ llmnode join-token show --head http/,
      SLOW,
    );
    expect(piped.stderr()).toContain("LLMNODE_TOKEN=<join token> llmnode join");
    expect(piped.output()).not.toContain(token.slice(0, 20));
  });

  test("--insecure is told loudly, and the data directory is for one head", async () => {
    const dir = mkdtempSync(join(home, "insecure-"));
    const args = ["--listen", "127.0.0.1:0", "--session-listen", "127.0.0.1:0", "--data-dir", dir];
    await using head = llmnodeStarted(["head", "--insecure", ...args]);
    const [, url = ""] = await head.waitForLine(/url=(\S+)/, SLOW);
    expect(head.stderr()).toContain("level=warn");
    expect(head.stderr()).toContain("NOT encrypted");
    const second = await llmnode(["head", ...args]);
    expect(second.code).toBe(1);
    expect(second.stderr).toContain(`another head uses it (pid ${head.pid}, clients at ${url})`);
    expect(second.stderr).toContain("--data-dir");
  });

  test("join-token makes, lists and takes back, with words and with JSON", async () => {
    const data = { LLMNODE_DATA: mkdtempSync(join(home, "data-")) };
    const { process: child, url } = await startHead(data);
    await using _ = child;
    const run = (...args: string[]) => llmnode(["join-token", ...args, "--head", url], data);
    const made = await run("create", "--expires", "7d", "--uses", "3", "--models", "Qwen/*");
    expect([made.code, made.stdout]).toEqual([
      0,
      expect.stringMatching(/^[0-9a-f]{48}\.[\w-]{43}\n$/),
    ]);
    const listed = await run("list");
    expect(listed.stdout).toMatch(/^ID +STATE +USES +EXPIRES +MODELS +NOTE\n/);
    expect(listed.stdout).toMatch(/^\w{8} +active +0 +never +any +the first one$/m);
    expect(listed.stdout).toMatch(/^\w{8} +active +0\/3 +20[\d: -]+ +Qwen\/\*$/m);
    expect(listed.stdout).not.toContain(made.stdout.slice(0, 20));
    const { join_tokens: rows } = JSON.parse((await run("list", "--json")).stdout) as {
      join_tokens: { id: string; first: boolean }[];
    };
    const first = rows.find((row) => row.first)?.id ?? "";
    expect((await run("revoke", first)).code).toBe(0);
    const none = await run("show");
    expect([none.code, none.stdout]).toEqual([5, ""]);
    expect(none.stderr).toContain("llmnode join-token rotate");
    const rotated = await run("rotate");
    expect((await run("show")).stdout).toBe(rotated.stdout);
    expect((await run("revoke", "nothing")).stderr).toBe("error: there is no join token nothing\n");
  });

  test.each([
    [["join-token"], "join-token needs <action>: "],
    [["join-token", "shwo"], 'join-token has no action "shwo": did you mean "show"?'],
    [["join-token", "constructor"], 'join-token has no action "constructor"; there are: show,'],
    [["join-token", "revoke"], "join-token revoke needs an id of: llmnode join-token list"],
    [["join-token", "show", "x"], 'join-token show: unexpected argument "x"'],
    [["join-token", "revoke", "x", "y"], 'join-token: unexpected argument "y"'],
    [["join-token", "create", "--uses", "0"], "--uses needs a whole number from 1"],
    [["join-token", "create", "--expires", "0"], "--expires needs more than zero"],
    [["join-token", "create", "--expires", "7"], "--expires needs a duration"],
    [["forget"], "forget needs <worker>: llmnode forget <worker>"],
  ] as [string[], string][])("%p is told what is wrong", async (args, message) => {
    const { code, stderr } = await llmnode(args);
    expect([code, stderr]).toEqual([2, expect.stringContaining(`error: ${message}`)]);
  });

  test("a second head on the same port says so", async () => {
    const { process: child, url } = await startHead();
    await using head = child;
    const second = await llmnode([
      ...["head", "--listen", new URL(url).host, "--session-listen", "127.0.0.1:0"],
    ]);
    expect(second.code).toBe(1);
    expect(second.stderr).toContain(new URL(url).port);
    expect(head.stderr()).not.toContain("error");
  });

  test("a worker with a simulated engine from the command line to an answer and back", async () => {
    const { process: child, url, sessions } = await startHead();
    await using head = child;
    const engine = ["llmnode", "sim", "--port", "0", "--model", "m-1", "--itl", "0"];
    await using worker = llmnodeStarted(["join", sessions, "--name", "007", "--", ...engine]);
    await worker.waitForLine(/^e1\| .*\(simulated\)/, SLOW);
    await waitFor(
      async () => (await llmnode(["status", "--check", "--head", url])).code === 0,
      SLOW,
    );
    const { stdout } = await llmnode(["status", "--head", url]);
    expect(stdout).toContain("\n007      ready");
    expect(stdout).toContain("\n007/1    sim    ready   m-1     ready     0");
    const answer = await fetch(`${url}/v1/chat/completions`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ model: "m-1", messages: [{ role: "user", content: "hello" }] }),
    });
    expect(await answer.text()).toContain("[simulated]");
    // The head may count it as running for a moment longer than its client waits.
    const idle = "\n007/1    sim    ready   m-1     ready     0";
    await waitFor(
      async () => (await llmnode(["status", "--head", url])).stdout.includes(idle),
      SLOW,
    );
    worker.kill("SIGINT");
    const ended = await worker.finished;
    expect(ended.code).toBe(0);
    expect(ended.stderr).toContain("draining 0 requests, Ctrl-C again to stop now");
    head.kill("SIGINT");
    expect((await head.finished).code).toBe(0);
  });

  test("sim prints its address and ends with 0", async () => {
    await using sim = llmnodeStarted(["sim", "--model", "x"], { LLMNODE_SIM_PORT: "0" });
    const [, url = ""] = await sim.waitForLine(/(http:\/\/127\.0\.0\.1:\d+)/, SLOW);
    await sim.waitForLine("Application startup complete", SLOW);
    expect(await (await fetch(`${url}/v1/models`)).json()).toMatchObject({ data: [{ id: "x" }] });
    sim.kill("SIGTERM");
    expect((await sim.finished).code).toBe(0);
  });

  test("sim that loads for long ends at once when told", async () => {
    await using sim = llmnodeStarted(["sim", "--model", "x", "--port", "0", "--load-time", "1h"]);
    await sim.waitForLine("simulated", SLOW);
    sim.kill("SIGTERM");
    expect((await sim.finished).code).toBe(0);
  });

  test("sim --fault ignore-term ignores SIGTERM only", async () => {
    await using sim = llmnodeStarted([
      "sim",
      "--model",
      "x",
      "--port",
      "0",
      "--fault",
      "ignore-term",
    ]);
    await sim.waitForLine("Application startup complete", SLOW);
    sim.kill("SIGTERM");
    await sim.waitForLine("SIGTERM is ignored");
    sim.kill("SIGINT");
    expect((await sim.finished).code).toBe(0);
  });
});
