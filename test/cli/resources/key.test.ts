import { afterAll, beforeAll, expect, test } from "bun:test";
import { chmodSync, writeFileSync } from "node:fs";
import path from "node:path";
import { FAST, startTestHead, type TestHead } from "../../helpers/cluster.ts";
import { runProcess } from "../../helpers/process.ts";
import { tempDir } from "../../helpers/temp.ts";

const MAIN = path.resolve(import.meta.dir, "../../../src/main.ts");
const home = tempDir();
let head: TestHead;

beforeAll(async () => {
  head = await startTestHead(FAST);
});
afterAll(async () => {
  await head[Symbol.asyncDispose]();
  home[Symbol.dispose]();
});

async function llmnode(args: string[], env: Record<string, string> = {}, { url } = head) {
  const settings = Object.keys(process.env).filter((key) => key.startsWith("LLMNODE_"));
  const clean = Object.fromEntries(settings.map((key) => [key, undefined]));
  return await runProcess([process.execPath, MAIN, ...args, "--head", url], {
    env: { ...clean, HOME: home.path, ...env },
    timeoutMs: 20_000,
  });
}

/** As a person on the head's own machine. */
const here = (...args: string[]) => llmnode(args, { LLMNODE_DATA: head.dataDir });

test("create shows a key once, list never, revoke ends it; the audit log has it all", async () => {
  // Others make keys too.
  await using own = await startTestHead(FAST);
  const here = (...args: string[]) => llmnode(args, { LLMNODE_DATA: own.dataDir }, own);
  expect(await here("key", "list")).toEqual({
    code: 0,
    stdout: "",
    stderr: "no API keys (yet). Make one: llmnode key create --name alice\n",
  });
  const limits = ["--rpm", "60", "--tpm", "100000", "--concurrency", "4"];
  const flags = ["--name", "alice", "--models", "Qwen/*,m", "--expires", "30d", ...limits];
  const made = await here("key", "create", ...flags);
  expect(made.stdout).toMatch(/^sk-ln-\w{12}-\w{40}\n$/);
  expect(made.stderr).toBe(
    "warning: no worker has a model Qwen/* now\n" +
      "warning: no worker has a model m now\n" +
      "shown this once; clients send it as Authorization: Bearer <key>, or as x-api-key\n" +
      "it is the only key: clients without one get 401 now\n",
  );
  const id = made.stdout.split("-")[2] ?? "";
  const listed = await here("key", "list");
  expect(listed.stdout.split("\n")).toEqual([
    expect.stringMatching(/^ID +STATE +ROLE +MODELS +RPM +TPM +CONC +EXPIRES +NAME$/),
    expect.stringMatching(
      new RegExp(`^${id} +active +user +Qwen/\\*,m +60 +100000 +4 +20[\\d: -]+ +alice$`),
    ),
    "",
  ]);
  const json = JSON.parse((await here("key", "list", "--json")).stdout) as { keys: unknown[] };
  expect(json.keys).toEqual([
    expect.objectContaining({ id, requests_per_minute: 60, tokens_per_day: null, role: "user" }),
  ]);
  expect(await here("key", "revoke", id)).toEqual({
    code: 0,
    stdout: "",
    stderr: `${id}: revoked, at once\nno API key is left that lets clients in (revoke all with --purge to need none)\n`,
  });
  expect((await here("key", "revoke", id, "--purge")).stderr).toContain("clients need none");
  const audit = await here("audit", "-n", "2");
  expect(audit.stdout).toMatch(/^TIME +WHO +FROM +ACTION +RESULT +ABOUT\n/);
  expect(
    audit.stdout.match(/admin token +127\.0\.0\.1 +keys\/revoke +ok +id=\w{12}/g),
  ).toHaveLength(2);
  expect(audit.stdout).not.toContain(made.stdout.trim().slice(-20));
  const since = JSON.parse((await here("audit", "--since", "1h", "--json")).stdout) as object;
  expect(since).toMatchObject({ schema: "llmnode.admin/1", entries: { length: 3 } });
});

test.each([
  [["key"], 2, "key needs <action>"],
  [["key", "make"], 2, 'key has no action "make"'],
  [["key", "revok", "x"], 2, 'did you mean "revoke"?'],
  [["key", "revoke"], 2, "needs an id"],
  [["key", "revoke", "nobody"], 5, "there is no API key nobody"],
  [["key", "list", "x"], 2, "unexpected argument"],
  [["key", "create", "--rpm", "0"], 2, "--rpm needs"],
  [["key", "create", "--tpm=-1"], 2, "--tpm needs"],
  [["key", "create", "--concurrency", "1e99"], 2, "--concurrency needs"],
  [["key", "create", "--tokens-per-day", "99999999999999999"], 2, "--tokens-per-day needs"],
  [["key", "create", "--role", "admin"], 2, "--role"],
  [["key", "create", "--expires", "30"], 2, "--expires"],
  [["key", "create", "--expires", "0s"], 2, "more than zero"],
  [["key", "create", "--models", ","], 2, "--models needs"],
  [["audit", "-n", "0"], 2, "--limit needs"],
] as const)("%p: exit %p and one clear line", async (args, code, text) => {
  const answer = await here(...args);
  expect([answer.code, answer.stdout]).toEqual([code, ""]);
  expect(answer.stderr.split("\n")[0]).toStartWith("error: ");
  expect(answer.stderr.split("\n")[0]).toContain(text);
});

test("who is not the head's own user needs to say so: by a variable or a file of one's own", async () => {
  const token = head.operator["authorization"]?.slice("Bearer ".length) ?? "";
  const nobody = await llmnode(["key", "list"]);
  expect([nobody.code, nobody.stdout]).toEqual([4, ""]);
  expect(nobody.stderr).toContain("needs the admin token or an operator's API key");
  expect(nobody.stderr).toContain("LLMNODE_ADMIN_TOKEN");
  // What reveals needs nothing on this machine.
  expect((await llmnode(["status"])).code).toBe(0);
  expect((await llmnode(["key", "list"], { LLMNODE_ADMIN_TOKEN: token })).code).toBe(0);
  const wrong = await llmnode(["key", "list"], { LLMNODE_ADMIN_TOKEN: `${token.slice(0, -1)}x` });
  expect([wrong.code, wrong.stderr.includes(token.slice(0, -1))]).toEqual([4, false]);
  const made = await here("key", "create", "--role", "operator");
  expect((await llmnode(["key", "list"], { LLMNODE_API_KEY: made.stdout.trim() })).code).toBe(0);
  // A key for models is no hindrance where the admin token is at hand.
  const user = await here("key", "create");
  const both = { LLMNODE_API_KEY: user.stdout.trim(), LLMNODE_DATA: head.dataDir };
  expect((await llmnode(["key", "list"], both)).code).toBe(0);
  const file = path.join(home.path, "token");
  writeFileSync(file, `${token}\n`, { mode: 0o600 });
  expect((await llmnode(["key", "list", "--token-file", file])).code).toBe(0);
  chmodSync(file, 0o644);
  const open = await llmnode(["key", "list", "--token-file", file]);
  expect([open.code, open.stderr.includes("chmod 600")]).toEqual([2, true]);
});

test("an admin token is not sent where others can read along, nor to another head", async () => {
  const token = head.operator["authorization"]?.slice("Bearer ".length) ?? "";
  const args = [process.execPath, MAIN, "key", "list"];
  const run = (url: string, env: Record<string, string>) =>
    runProcess([...args, "--head", url, "--timeout", "1s"], {
      env: { HOME: home.path, LLMNODE_INSECURE: undefined, ...env },
      timeoutMs: 20_000,
    });
  const plain = await run("http://192.0.2.1:1", { LLMNODE_ADMIN_TOKEN: token });
  expect([plain.code, plain.stderr.split("\n")[0]]).toEqual([
    4,
    "error: the admin token is not sent to http://192.0.2.1:1, where others can read along",
  ]);
  const shown: (string | null)[] = [];
  using other = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    fetch(request) {
      shown.push(request.headers.get("authorization"));
      return Response.json({ keys: [] });
    },
  });
  await run(`http://127.0.0.1:${other.port}`, { LLMNODE_DATA: head.dataDir });
  expect(shown).toEqual([null]);
});
