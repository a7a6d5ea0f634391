import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import packageJson from "../../package.json";
import { binaryPath } from "../helpers/binary.ts";
import { ownEnvironment } from "../helpers/environment.ts";
import { startRealHead } from "../helpers/real-head.ts";
import { runProcess, spawnProcess } from "../helpers/process.ts";
import { waitFor } from "../helpers/wait.ts";

setDefaultTimeout(60_000);

const ROOT = resolve(import.meta.dir, "../..");
const PROBE = resolve(import.meta.dir, "fixtures/loaded.ts");
let binary = "";
let home = "";

beforeAll(async () => {
  home = mkdtempSync(join(tmpdir(), "llmnode-binary-"));
  binary = await binaryPath();
}, 180_000);
afterAll(() => rmSync(home, { recursive: true, force: true }));

const environment = (extra: Record<string, string> = {}) => ownEnvironment(home, extra);

const startHead = (options: { cwd?: string; env?: Record<string, string> } = {}) =>
  startRealHead({ command: [binary], home, ...options });

async function loaded(child: Promise<{ stderr: string }>) {
  const line = (await child).stderr.split("\n").find((text) => text.startsWith("loaded "));
  return JSON.parse(line?.slice(7) ?? "null") as { files: string[]; grpc: boolean; react: boolean };
}

test("the build prints the size and sum of what it made, and leaves nothing else", async () => {
  const out = join(home, "build");
  const made = join(out, "llmnode");
  const { code, stdout } = await runProcess(
    [process.execPath, join(ROOT, "scripts/build.ts"), "--outfile", made],
    { cwd: home, timeoutMs: 60_000 },
  );
  expect(code).toBe(0);
  const sum = createHash("sha256").update(readFileSync(made)).digest("hex");
  expect(stdout).toContain(`(${statSync(made).size} bytes)`);
  expect(stdout).toContain(`sha256 ${sum}`);
  expect(readdirSync(out)).toEqual(["llmnode"]);
  expect(statSync(made).size).toBeLessThan(140_000_000);
});

test("builds at the same time make one binary, and a fresh one is left alone", async () => {
  const made = join(home, "parallel", "llmnode");
  const build = () =>
    runProcess(
      [process.execPath, join(ROOT, "scripts/build.ts"), "--if-stale", "--outfile", made],
      {
        timeoutMs: 60_000,
      },
    );
  const results = await Promise.all([build(), build(), build()]);
  expect(results.map(({ code }) => code)).toEqual([0, 0, 0]);
  expect(results.filter(({ stdout }) => stdout.includes("sha256")).length).toBe(1);
  expect(readdirSync(join(home, "parallel"))).toEqual(["llmnode"]);
  expect((await build()).stdout).toBe("");
});

test("it knows its version", async () => {
  const { stdout } = await runProcess([binary, "--version"], { env: environment() });
  expect(stdout).toBe(
    `llmnode ${packageJson.version} (bun ${Bun.version}, ${process.platform}-${process.arch})\n`,
  );
});

test("--version evaluates neither gRPC nor React, from the sources too", async () => {
  const env = environment({ BUN_OPTIONS: `--preload ${PROBE}` });
  const compiled = await loaded(runProcess([binary, "--version"], { env }));
  expect([compiled.grpc, compiled.react]).toEqual([false, false]);
  // The probe does see gRPC where it is evaluated.
  const { process: child } = await startHead({ env: { BUN_OPTIONS: `--preload ${PROBE}` } });
  await using head = child;
  head.kill("SIGTERM");
  expect((await loaded(head.finished)).grpc).toBe(true);

  const main = join(ROOT, "src/main.ts");
  const { files } = await loaded(runProcess([process.execPath, main, "--version"], { env }));
  const packages = files.flatMap(
    (file) => /node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(file)?.[1] ?? [],
  );
  expect(packages).toEqual(["cac"]);
});

test("a hostile working directory neither runs code nor changes settings", async () => {
  const cwd = join(home, "hostile");
  const ran = join(home, "ran");
  mkdirSync(cwd);
  const evil = `require("node:fs").writeFileSync(${JSON.stringify(ran)}, "x");`;
  await Bun.write(join(cwd, "evil.ts"), evil);
  await Bun.write(
    join(cwd, "bunfig.toml"),
    'preload = ["./evil.ts"]\n[run]\npreload = ["./evil.ts"]\n',
  );
  await Bun.write(join(cwd, ".env"), "LLMNODE_HEAD=http://127.0.0.1:2\nNODE_ENV=development\n");
  await Bun.write(join(cwd, "package.json"), '{"type":"commonjs","main":"evil.ts"}');
  await Bun.write(join(cwd, "tsconfig.json"), "{ not json");
  // The trap works: Bun itself falls into it.
  await runProcess([process.execPath, "-e", "1"], { cwd, env: environment() });
  expect(await Bun.file(ran).exists()).toBe(true);
  rmSync(ran);

  const version = await runProcess([binary, "--version"], { cwd, env: environment() });
  expect([version.code, version.stderr]).toEqual([0, ""]);
  const status = await runProcess([binary, "status"], { cwd, env: environment() });
  expect(status.stdout + status.stderr).not.toContain("127.0.0.1:2");
  const { process: child } = await startHead({ cwd });
  await using head = child;
  head.kill("SIGTERM");
  expect((await head.finished).code).toBe(0);
  expect(await Bun.file(ran).exists()).toBe(false);
});

test.skipIf(process.platform !== "linux")(
  "it starts in a directory where nobody can write",
  async () => {
    const { process: child } = await startHead({ cwd: "/proc" });
    await using head = child;
    head.kill("SIGTERM");
    expect((await head.finished).code).toBe(0);
  },
);

test.skipIf(process.platform !== "linux")(
  "a head has the raised fetch limit, and is the process that was started",
  async () => {
    const { process: child } = await startHead();
    await using head = child;
    const environ = readFileSync(`/proc/${head.pid}/environ`, "utf8").split("\0");
    expect(environ).toContain("BUN_CONFIG_MAX_HTTP_REQUESTS=65535");
  },
);

test("request headers of 40 KiB are accepted", async () => {
  const { process: child, url } = await startHead();
  await using _head = child;
  const response = await fetch(`${url}/v1/models`, { headers: { "x-large": "x".repeat(40_000) } });
  expect(response.status).toBe(200);
});

test("an engine that is llmnode itself runs from the binary, wherever that is", async () => {
  const { process: child, url } = await startHead();
  await using _head = child;
  const sessions = /sessions=(\S+)/.exec(child.stderr())?.[1] ?? "";
  const engine = ["llmnode", "sim", "--port", "0", "--model", "from-binary"];
  await using worker = spawnProcess([binary, "join", sessions, "--", ...engine], {
    env: environment({ PATH: "/usr/bin:/bin" }),
  });
  await worker.waitForLine(/^e1\| .*simulated/, { timeoutMs: 30_000 });
  await waitFor(
    async () => (await (await fetch(`${url}/v1/models`)).text()).includes("from-binary"),
    { timeoutMs: 30_000 },
  );
});
