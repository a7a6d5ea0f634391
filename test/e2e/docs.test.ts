import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import path from "node:path";
import { binaryPath } from "../helpers/binary.ts";
import { fencedBlocks, inlineCode, llmnodeCommands, readPage } from "../helpers/documents.ts";
import { ownEnvironment } from "../helpers/environment.ts";
import { freePort } from "../helpers/free-port.ts";
import { runProcess, spawnProcess } from "../helpers/process.ts";
import { tempDir } from "../helpers/temp.ts";
import { waitFor } from "../helpers/wait.ts";

setDefaultTimeout(120_000);

const SLOW = { timeoutMs: 60_000 };
const folder = tempDir();
const bin = path.join(folder.path, "bin");

/** `llmnode` is on the PATH, and a `vllm` that serves the model which it is told. */
beforeAll(async () => {
  const binary = await binaryPath();
  mkdirSync(bin);
  symlinkSync(binary, path.join(bin, "llmnode"));
  const simulated = `exec '${binary}' sim --model "$2" --port "$4"`;
  writeFileSync(path.join(bin, "vllm"), `#!/bin/sh\n${simulated}\n`, { mode: 0o755 });
}, 180_000);
afterAll(() => folder[Symbol.dispose]());

/** A machine of its own: another home, so that nothing is found but what is handed over. */
function machine(name: string, extra: Record<string, string> = {}) {
  const home = path.join(folder.path, name);
  mkdirSync(home);
  const PATH = `${bin}:${process.env["PATH"]}`;
  const env = ownEnvironment(home, { PATH, ...extra });
  const shell = (line: string) => ["sh", "-c", line];
  return {
    run: (line: string) => runProcess(shell(line), { env, cwd: home, ...SLOW }),
    start: (line: string) => spawnProcess(shell(`exec ${line}`), { env, cwd: home, graceMs: 500 }),
  };
}

test("the README's first cluster, as it stands, with free ports in place of the usual ones", async () => {
  await using stack = new AsyncDisposableStack();
  const text = readPage("README.md");
  const [http, sessions, lanes] = [freePort(), freePort(), freePort()];
  const withPorts = (line: string) =>
    line
      .replaceAll("127.0.0.1:8092", `127.0.0.1:${http}`)
      .replace(/join (127\.0\.0\.1|10\.0\.0\.5)/, `join 127.0.0.1:${sessions}`)
      .replace("--port 8080", `--port ${freePort()}`);
  const [start, local, token, remote, ask] = fencedBlocks(text, "A first cluster")
    .map(({ lines }) => lines.map(withPorts))
    .filter(([first]) => !first?.startsWith("scripts/"));
  const first = machine("first", {
    LLMNODE_LISTEN: `127.0.0.1:${http}`,
    LLMNODE_SESSION_LISTEN: `127.0.0.1:${sessions}`,
    LLMNODE_LANE_LISTEN: `127.0.0.1:${lanes}`,
    LLMNODE_HEAD: `http://127.0.0.1:${http}`,
  });
  const second = machine("second");

  const head = stack.use(first.start(start?.join("\n") ?? ""));
  await head.waitForLine("head is up", SLOW);
  stack.use(first.start(local?.join("\n") ?? ""));
  const simulated = inlineCode(text).find((code) => /^llmnode join .* llmnode sim/.test(code));
  stack.use(first.start(withPorts(simulated ?? "")));
  const shown = await first.run(token?.join("\n") ?? "");
  expect([shown.code, shown.stderr]).toEqual([0, ""]);
  const [handOver = "", join = ""] = remote ?? [];
  const secret = handOver.replace("<join token>", shown.stdout.trim());
  stack.use(second.start(`sh -c '${secret}\nexec ${join}'`));

  const status = async () =>
    (await fetch(`http://127.0.0.1:${http}/api/v1/status`)).json() as Promise<{
      models: { name: string; ready: number }[];
    }>;
  await waitFor(
    async () => {
      const { models } = await status();
      const ready = (name: string) => models.find((model) => model.name === name)?.ready;
      return ready("Qwen/Qwen3-8B") === 2 && ready("demo") === 1;
    },
    { what: "two workers with the model, one with the simulated engine", ...SLOW },
  );
  const answer = await first.run(ask?.join("\n") ?? "");
  expect(answer.code).toBe(0);
  expect(answer.stdout).toMatch(/Qwen\/Qwen3-8B +2\/2/);
  expect(answer.stdout).toContain("data: [DONE]");
});

test("the recipes for the simulated engine run", async () => {
  const lines = fencedBlocks(readPage("docs/testing.md"), "The simulated engine").flatMap(
    ({ lines: all }) => all,
  );
  expect(lines.length).toBeGreaterThan(2);
  const one = machine("simulated");
  for (const line of lines) {
    const port = freePort();
    if (!line.includes("--port 0")) {
      const { code, stdout } = await one.run(line);
      expect([line, code, stdout.length > 0]).toEqual([line, 0, true]);
      continue;
    }
    expect(llmnodeCommands(line).length).toBe(1);
    await using engine = one.start(line.replace("--port 0", `--port ${port}`));
    const models = () => fetch(`http://127.0.0.1:${port}/v1/models`).catch(() => null);
    await waitFor(async () => (await models())?.ok, {
      what: `${line}: ${engine.output()}`,
      ...SLOW,
    });
  }
});
