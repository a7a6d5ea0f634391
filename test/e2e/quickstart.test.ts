import { afterEach, beforeAll, beforeEach, expect, setDefaultTimeout, test } from "bun:test";
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { binaryPath } from "../helpers/binary.ts";
import { freePort } from "../helpers/free-port.ts";
import {
  processesWithEnvironment,
  runProcess,
  spawnProcess,
  type TestProcess,
} from "../helpers/process.ts";
import { waitFor } from "../helpers/wait.ts";

setDefaultTimeout(90_000);

const SCRIPT = resolve(import.meta.dir, "../../scripts/quickstart.sh");
const SLOW = { timeoutMs: 60_000 };
let temporary = "";
let mark = "";

beforeAll(async () => {
  await binaryPath();
}, 180_000);
beforeEach(() => {
  temporary = mkdtempSync(join(tmpdir(), "llmnode-qs-"));
  mark = `QUICKSTART_MARK=${crypto.randomUUID()}`;
});
afterEach(() => rmSync(temporary, { recursive: true, force: true }));

function environment(): Record<string, string> {
  const [key = "", value = ""] = mark.split("=");
  // A setting that would break it, if it counted.
  return { TMPDIR: temporary, LLMNODE_ATTACH: "http://127.0.0.1:1", [key]: value };
}

function started(): TestProcess {
  return spawnProcess([SCRIPT], { env: environment() });
}

/** Neither a process nor a file of it is left. */
async function expectNothingLeft(): Promise<void> {
  await waitFor(() => processesWithEnvironment(mark).length === 0);
  expect(readdirSync(temporary)).toEqual([]);
}

/** Holds a port, unless somebody else does: it is busy either way. */
function hold(port: number): Promise<Server> {
  const { promise, resolve: done } = Promise.withResolvers<Server>();
  const server = createServer();
  server.once("error", () => done(server));
  server.listen(port, "127.0.0.1", () => done(server));
  return promise;
}

test("--once shows an answer and the cluster, and leaves nothing behind", async () => {
  const { code, stdout, stderr } = await runProcess([SCRIPT, "--once"], {
    env: environment(),
    ...SLOW,
  });
  expect([code, stderr]).toEqual([0, ""]);
  expect(stdout).toContain("\n[simulated] ");
  expect(stdout).toMatch(/^demo +2\/2 +0$/m);
  expect(stdout).toMatch(/^demo-2\/1 +sim +ready +demo +ready +0( |$)/m);
  await expectNothingLeft();
});

test("busy ports: it takes free ones and says so", async () => {
  const held = await Promise.all([hold(8092), hold(8093)]);
  try {
    const { code, stdout } = await runProcess([SCRIPT, "--once"], { env: environment(), ...SLOW });
    expect(code).toBe(0);
    expect(stdout).toMatch(/^port 8092 is in use: taking \d+ instead$/m);
    expect(stdout).toMatch(/^port 8093 is in use: taking \d+ instead$/m);
  } finally {
    for (const server of held) server.close();
  }
  await expectNothingLeft();
});

test("without curl it asks by itself", async () => {
  const bin = join(temporary, "bin");
  mkdirSync(bin);
  const tools = ["sh", "dirname", "mkdir", "sed", "sleep", "tail"];
  for (const tool of tools) symlinkSync(Bun.which(tool) ?? "", join(bin, tool));
  symlinkSync(process.execPath, join(bin, "bun"));
  const env = { ...environment(), PATH: bin };
  const { code, stdout } = await runProcess([SCRIPT, "--once"], { env, ...SLOW });
  expect([code, stdout.includes("\n[simulated] ")]).toEqual([0, true]);
  rmSync(bin, { recursive: true });
  await expectNothingLeft();
});

test.each(["SIGINT", "SIGTERM", "SIGHUP"] as const)("it stays up until %s", async (signal) => {
  await using script = started();
  const [, url = ""] = await script.waitForLine(/with base URL (\S+)\/v1/, SLOW);
  expect((await fetch(`${url}/v1/models`)).status).toBe(200);
  // As a terminal does it: the whole group gets the signal.
  script.killGroup(signal);
  expect((await script.finished).code).toBe(0);
  await expectNothingLeft();
});

test("the next steps that it prints work as they are printed", async () => {
  await using stack = new AsyncDisposableStack();
  const script = stack.use(started());
  const [, url = ""] = await script.waitForLine(/with base URL (\S+)\/v1/, SLOW);
  const printed = script.stdout().replaceAll(/\\\n\s*/g, "");
  const lines = /Try next.*\n\n([^]*?)\n\n/.exec(printed)?.[1]?.split("\n") ?? [];
  const [exports = "", ...steps] = lines.map((line) => line.trim());
  expect(exports).toStartWith("export LLMNODE_DATA=");
  const port = freePort();
  // No vLLM here: a program of that name that serves the same model.
  const bin = join(temporary, "bin");
  mkdirSync(bin);
  const simulated = `${await binaryPath()} sim --model "$2" --port "$4"`;
  writeFileSync(join(bin, "vllm"), `#!/bin/sh\nexec ${simulated}\n`, { mode: 0o755 });
  const env = {
    ...environment(),
    LLMNODE_ATTACH: undefined,
    PATH: `${bin}:${process.env["PATH"]}`,
  };
  const shell = (line: string) => [
    "sh",
    "-c",
    `${exports}\n${line.replace("--port 8080", `--port ${port}`)}`,
  ];
  let joins = 0;
  for (const line of steps) {
    const options = { env, cwd: process.cwd() };
    if (line.includes(" join ")) {
      joins += 1;
      stack.use(spawnProcess(shell(line), options));
      continue;
    }
    const { code, stdout } = await runProcess(shell(line), { ...options, ...SLOW });
    expect([line, code, stdout.length > 0]).toEqual([line, 0, true]);
  }
  expect([joins, steps.length]).toEqual([2, 6]);
  const models = async () => (await fetch(`${url}/v1/models`)).text();
  for (const model of ["another", "Qwen/Qwen3-8B"]) {
    await waitFor(async () => (await models()).includes(`"${model}"`), { timeoutMs: 60_000 });
  }
  await stack.disposeAsync();
  rmSync(bin, { recursive: true });
  await expectNothingLeft();
});

test("interrupted before its answer, it leaves nothing behind either", async () => {
  await using script = started();
  await script.waitForLine("starting a head", SLOW);
  script.kill("SIGTERM");
  expect((await script.finished).code).toBe(130);
  await expectNothingLeft();
});

test.skipIf(process.platform !== "linux")(
  "when a part of it dies it says so, shows the logs and cleans up",
  async () => {
    await using script = started();
    await script.waitForLine("with base URL", SLOW);
    const head = processesWithEnvironment(mark).find((pid) => {
      return readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0")[1] === "head";
    });
    process.kill(head ?? 0, "SIGKILL");
    const { code, stdout } = await script.finished;
    expect(code).toBe(1);
    expect(stdout).toContain("error: the head ended by itself");
    expect(stdout).toMatch(/the end of the log of demo-1:\n {2}\| /);
    await expectNothingLeft();
  },
);

test("an unknown option is told", async () => {
  const { code, stdout } = await runProcess([SCRIPT, "--onec"], { env: environment(), ...SLOW });
  expect([code, stdout]).toEqual([2, "error: unknown option --onec; there is only --once\n"]);
  expect(readdirSync(temporary)).toEqual([]);
});
