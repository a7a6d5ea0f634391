import { beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { binaryPath } from "../helpers/binary.ts";
import { ownEnvironment } from "../helpers/environment.ts";
import { type RealHead, startRealHead } from "../helpers/real-head.ts";
import { processesWithEnvironment, spawnProcess } from "../helpers/process.ts";
import { tempDir } from "../helpers/temp.ts";
import { waitFor } from "../helpers/wait.ts";

setDefaultTimeout(60_000);

let binary = "";
beforeAll(async () => {
  binary = await binaryPath();
}, 180_000);

async function startHead(home: string): Promise<RealHead> {
  const head = await startRealHead({ command: [binary], home });
  expect(head.process.output()).toContain('join_token="llmnode join-token show"');
  return head;
}

const ENGINE = ["--", "llmnode", "sim", "--port", "0", "--model", "m"];

function join(head: RealHead, home: string, more: { args?: string[]; env?: object } = {}) {
  return spawnProcess([binary, "join", head.sessions, ...(more.args ?? []), ...ENGINE], {
    env: ownEnvironment(home, { ...more.env }),
  });
}

async function ready(head: RealHead, count = 1): Promise<string> {
  return await waitFor(
    async () => {
      const text = await (await fetch(`${head.url}/api/v1/status`)).text();
      const { models } = JSON.parse(text) as { models: { name: string; ready: number }[] };
      return models.find(({ name }) => name === "m")?.ready === count ? text : null;
    },
    { what: `${count} replicas`, timeoutMs: 30_000 },
  );
}

function commandLines(): string[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, "latin1");
      } catch {
        return ""; // it ended meanwhile
      }
    });
}

test("two words on the head's own machine are enough", async () => {
  using home = tempDir();
  await using head = await startHead(home.path);
  await using _ = join(head, home.path);
  await ready(head);
});

test
  .skipIf(process.platform !== "linux")
  .each(["LLMNODE_TOKEN", "--token", "--token=", "--token-file", "stdin"])(
  "elsewhere the join token comes by %s, and shows in no command line, log, status or engine",
  async (how) => {
    using home = tempDir();
    using empty = tempDir();
    await using head = await startHead(home.path);
    const { code, stdout } = await head.llmnode("join-token", "show");
    const token = stdout.trim();
    expect([code, token]).toEqual([0, expect.stringMatching(/^[0-9a-f]{48}\.[\w-]{43}$/)]);
    const file = path.join(empty.path, "token");
    writeFileSync(file, stdout);
    const forms: Record<string, { args?: string[]; env?: object }> = {
      LLMNODE_TOKEN: { env: { LLMNODE_TOKEN: token } },
      "--token": { args: ["--token", token] },
      "--token=": { args: [`--token=${token}`] },
      "--token-file": { args: ["--token-file", file] },
      stdin: { args: ["--token-file=-"] },
    };
    const argv = [binary, "join", head.sessions, ...(forms[how]?.args ?? []), ...ENGINE];
    const shell = ["sh", "-c", `exec "$@" < '${file}'`, "sh", ...argv];
    await using worker =
      how === "stdin"
        ? spawnProcess(shell, { env: ownEnvironment(empty.path) })
        : join(head, empty.path, forms[how]);
    const status = await ready(head);
    const secret = token.slice(0, 48);
    expect(commandLines().filter((line) => line.includes(secret))).toEqual([]);
    const id = (JSON.parse(status) as { workers: { id: string }[] }).workers[0]?.id;
    const engines = processesWithEnvironment(`LLMNODE_ENGINE_ID=${id}-1`);
    expect(engines.length).toBe(1);
    for (const pid of engines) {
      expect(readFileSync(`/proc/${pid}/environ`, "latin1")).not.toContain(secret);
    }
    worker.kill("SIGTERM");
    expect((await worker.finished).code).toBe(0);
    head.process.kill("SIGTERM");
    await head.process.finished;
    expect(status + worker.output() + head.process.output()).not.toContain(secret);
  },
);

test("a refused join ends with 125, the reason and the fix", async () => {
  using home = tempDir();
  using empty = tempDir();
  await using head = await startHead(home.path);
  const { stdout } = await head.llmnode("join-token", "create", "--note", "soon gone");
  const listed = await head.llmnode("join-token", "list");
  const id = /^(\w+) .*soon gone$/m.exec(listed.stdout)?.[1] ?? "";
  const revoked = await head.llmnode("join-token", "revoke", id);
  expect([revoked.code, revoked.stderr]).toEqual([
    0,
    `${id}: revoked; workers that joined with it stay\n`,
  ]);
  const worker = join(head, empty.path, { env: { LLMNODE_TOKEN: stdout.trim() } });
  const ended = await worker.finished;
  expect(ended.code).toBe(125);
  expect(ended.stderr).toMatch(
    /^error: the head refuses this worker: the join token was revoked at/m,
  );
  expect(ended.stderr).toContain("llmnode join-token show");
  await worker[Symbol.asyncDispose]();
  // The two ways to mix TLS up.
  const plain = join(head, home.path, { args: ["--insecure"] });
  const told = await plain.finished;
  expect([told.code, told.stderr]).toEqual([125, expect.stringContaining("speaks TLS")]);
  expect(told.stderr).toContain("leave out --insecure");
  await plain[Symbol.asyncDispose]();
});

test("rotate cuts nobody, forget does", async () => {
  using home = tempDir();
  await using head = await startHead(home.path);
  await using worker = join(head, home.path, { args: ["--name", "gpu"] });
  await ready(head);
  const before = (await head.llmnode("join-token", "show")).stdout;
  const rotated = await head.llmnode("join-token", "rotate");
  expect(rotated.stdout).not.toBe(before);
  expect((await head.llmnode("join-token", "show")).stdout).toBe(rotated.stdout);
  const forgotten = await head.llmnode("forget", "gpu");
  expect([forgotten.code, forgotten.stderr]).toEqual([
    0,
    expect.stringContaining("gpu: sent away"),
  ]);
  await worker.waitForLine(/an operator has removed this worker/);
  const again = await head.llmnode("forget", "nobody");
  expect([again.code, again.stderr]).toEqual([5, "error: there is no worker nobody\n"]);
});
