import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { chmodSync, existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import path from "node:path";
import { operatorOf } from "../../helpers/cluster.ts";
import { ownEnvironment } from "../../helpers/environment.ts";
import { runProcess, spawnProcess } from "../../helpers/process.ts";
import { type TempDir, tempDir } from "../../helpers/temp.ts";

const MAIN = path.resolve(import.meta.dir, "../../../src/main.ts");
let dir: TempDir;
beforeAll(() => {
  dir = tempDir();
  mkdirSync(at("user/llmnode"), { recursive: true });
  mkdirSync(at("here"));
});
afterAll(() => dir[Symbol.dispose]());

beforeEach(() => {
  for (const file of ["here/llmnode.toml", "user/llmnode/config.toml"]) write(file, "");
});

const at = (name: string) => path.join(dir.path, name);

/** The environment without any setting of the person who runs the tests. */
const environment = (extra: Record<string, string> = {}) =>
  ownEnvironment(dir.path, { XDG_CONFIG_HOME: at("user"), ...extra });

async function llmnode(args: string[], env: Record<string, string> = {}) {
  const { code, stdout, stderr } = await runProcess([process.execPath, MAIN, ...args], {
    env: environment(env),
    cwd: at("here"),
  });
  const shorten = (text: string) => text.replaceAll(`${dir.path}/`, "");
  return { code, stdout: shorten(stdout), stderr: shorten(stderr) };
}

function write(name: string, content: string): string {
  writeFileSync(at(name), content);
  return at(name);
}

const row = (text: string, key: string) =>
  text
    .split("\n")
    .find((line) => line.startsWith(`${key} `))
    ?.split(/ {3,}/)
    .slice(1);

describe("config", () => {
  test("print shows each value with its source, and no secret", async () => {
    write("here/llmnode.toml", '[join]\nname = "here"\n');
    write(
      "user/llmnode/config.toml",
      `head = "prod"
timeout = "9s"
[heads.prod]
url = "https://user:pass-word@head-1:8092"
token_file = "prod.token"
[join]
head = "10.0.0.5"
command = ["vllm", "serve", "x y", "--api-key", "sk-engine-secret"]
token = "0123456789abcdef.secret-join-token"
attach = "http://me:pass-word@h:1"
[join.env]
HF_TOKEN = "hf-secret-token"
[top]
interval = "2s"
`,
    );
    const env = { LLMNODE_TOP_INTERVAL: "3s", LLMNODE_LISTEN: "127.0.0.1:1" };
    const { code, stdout, stderr } = await llmnode(["config", "print", "--timeout", "7s"], env);
    expect([code, stderr]).toEqual([0, ""]);
    expect(stdout).not.toMatch(/secret|pass-word/);
    const config = "user/llmnode/config.toml";
    expect([
      row(stdout, "timeout"),
      row(stdout, "head"),
      row(stdout, "heads.prod.token-file"),
      row(stdout, "head.listen"),
      row(stdout, "head.queue-size"),
      row(stdout, "join.head"),
      row(stdout, "join.command"),
      row(stdout, "join.name"),
      row(stdout, "join.token"),
      row(stdout, "join.env"),
      row(stdout, "join.restart"),
      row(stdout, "join.insecure"),
      row(stdout, "top.interval"),
    ]).toEqual([
      ["--timeout", "7s"],
      [`${config}:4 (heads.prod)`, "https://user:***@head-1:8092"],
      [`${config}:5`, "user/llmnode/prod.token"],
      ["LLMNODE_LISTEN", "127.0.0.1:1"],
      ["default", "256"],
      [`${config}:7`, "10.0.0.5"],
      [`${config}:8`, "vllm serve 'x y' --api-key ***"],
      ["here/llmnode.toml:2", "here"],
      [`${config}:9`, "***"],
      [`${config}:12`, "HF_TOKEN=***"],
      ["default", "always"],
      ["default", "(false)"],
      ["LLMNODE_TOP_INTERVAL", "3s"],
    ]);
    const json = await llmnode(["config", "print", "join", "--json", "--", "--name=typed"]);
    expect(json.stdout).not.toMatch(/secret|pass-word/);
    const { schema, values } = JSON.parse(json.stdout) as { schema: string; values: object[] };
    expect(schema).toBe("llmnode.config/1");
    expect(values).toContainEqual({
      key: "join.name",
      value: "typed",
      from: "flag",
      source: "--name",
    });
    expect(values).toContainEqual({
      key: "join.port",
      value: null,
      from: "default",
      source: "default",
    });
  });

  test("path names the files, the strongest first", async () => {
    write("here/llmnode.toml", "[join");
    const { code, stdout } = await llmnode(["config", "path"]);
    expect(code).toBe(0);
    const lines = stdout.split("\n");
    expect(lines[1]).toMatch(/^\/?here\/llmnode.toml +wrong: llmnode config check +head and join/);
    expect(lines[2]).toMatch(/^user\/llmnode\/config.toml +read +this user$/);
    expect(lines[3]).toMatch(/^\/etc\/llmnode\/config.toml +(not there|read) +this machine$/);
  });

  test("check ends with 2 and says where; --strict also for keys that are not known", async () => {
    const file = write("a.toml", '[top]\ninterval = "1s"\nthem = "mono"\n');
    const warned = await llmnode(["config", "check", file]);
    expect([warned.code, warned.stdout, warned.stderr]).toEqual([
      0,
      "a.toml: ok\n",
      'warning: a.toml:3:1: unknown key "them": did you mean "theme"?\n',
    ]);
    const strict = await llmnode(["config", "check", "--strict", file]);
    expect([strict.code, strict.stderr]).toEqual([
      2,
      'error: a.toml:3:1: unknown key "them": did you mean "theme"?\n',
    ]);
    write("a.toml", "[top]\ninterval = \n");
    const wrong = await llmnode(["config", "check", "--config", file]);
    expect([wrong.code, wrong.stdout]).toEqual([2, ""]);
    expect(wrong.stderr).toMatch(/^error: a\.toml:2:\d+: Unspecified values are invalid/);
    const json = await llmnode(["config", "check", file, "--json"]);
    expect(JSON.parse(json.stdout)).toMatchObject({ ok: false, findings: [{ severity: "error" }] });
    const missing = await llmnode(["config", "check", at("none")]);
    expect([missing.code, missing.stderr]).toEqual([
      2,
      "error: none cannot be read: there is no such file\n",
    ]);
  });

  test.each([
    [["config"], "error: config needs <action>"],
    [["config", "chek"], 'error: config has no action "chek": did you mean "check"?'],
    [
      ["config", "print", "status"],
      'error: config print: "status" has no table; there are: head, join, top',
    ],
    [
      ["config", "print", "top", "--", "--prot", "1"],
      "error: unknown option --prot for top; see: llmnode help top",
    ],
    [["config", "path", "x"], 'error: config path: unexpected argument "x"'],
    [["config", "check", "--", "x"], 'error: options after "--" are those of the command in'],
  ])("%p", async (args, message) => {
    const { code, stderr } = await llmnode(args);
    expect([code, stderr]).toEqual([2, expect.stringContaining(message)]);
  });
});

describe("with a head", () => {
  test("contexts, warnings, and a backup of a head that runs, and of one that does not", async () => {
    const data = at("data");
    const run = ["--listen", "127.0.0.1:0", "--session-listen", "127.0.0.1:0"];
    const start = (dataDir: string) =>
      spawnProcess([process.execPath, MAIN, "head", ...run, "--data-dir", dataDir], {
        env: environment(),
        cwd: at("here"),
      });
    write("user/llmnode/config.toml", "[head]\nno-request-log = true\nlisen = 'x'\n");
    await using head = start(data);
    const [, url = ""] = await head.waitForLine(/msg="head is up" url=(\S+)/);
    // Once, though it starts itself anew.
    expect(head.output().split('unknown key \\"lisen\\": did you mean \\"listen\\"?').length).toBe(
      2,
    );
    const token = operatorOf(data)["authorization"]?.slice("Bearer ".length) ?? "";
    writeFileSync(at("user/llmnode/t"), `${token}\n`, { mode: 0o644 });
    write(
      "user/llmnode/config.toml",
      `head = "mine"\nfoo = 1\n[heads.mine]\nurl = "${url}"\ntoken_file = "t"\n`,
    );
    const open = await llmnode(["status"]);
    expect([open.code, open.stderr]).toEqual([
      2,
      expect.stringContaining("can be read by others\n  chmod 600 user/llmnode/t\n"),
    ]);
    chmodSync(at("user/llmnode/t"), 0o600);
    const status = await llmnode(["status"]);
    expect(status).toMatchObject({
      code: 0,
      stdout: expect.stringContaining(url),
      stderr: expect.stringContaining('warning: user/llmnode/config.toml:2:1: unknown key "foo"\n'),
    });
    expect((await llmnode(["alias", "set", "fast=m"])).code).toBe(0);
    // What was typed names the head, not this.
    write("user/llmnode/config.toml", 'head = "127.0.0.1:1"\n');

    const file = at("head.backup");
    const of = (...args: string[]) =>
      llmnode(["head", "backup", file, "--data-dir", data, ...args]);
    const running = await of();
    expect([running.code, running.stderr]).toEqual([
      0,
      expect.stringMatching(/^head\.backup: [\d,]+ bytes; anyone who has this file/),
    ]);
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(await of()).toMatchObject({
      code: 6,
      stderr: expect.stringContaining("error: head.backup is there already\n"),
    });
    expect((await of("--force")).code).toBe(0);
    const remote = await llmnode(["head", "backup", at("remote.backup"), "--head", url], {
      LLMNODE_ADMIN_TOKEN: token,
    });
    expect(remote.code).toBe(0);
    const nobody = await llmnode(["head", "backup", at("no.backup"), "--head", url]);
    expect([nobody.code, existsSync(at("no.backup"))]).toEqual([4, false]);
    head.kill("SIGKILL");
    await head.finished;
    expect((await of("--force")).code).toBe(0);

    const restored = at("restored");
    const restore = () => llmnode(["head", "restore", file, "--data-dir", restored]);
    expect(await restore()).toMatchObject({
      code: 0,
      stderr: expect.stringContaining("start it:   llmnode head --data-dir restored\n"),
    });
    expect(await restore()).toMatchObject({
      code: 6,
      stderr: expect.stringContaining("there is a head's state in restored/head already"),
    });
    expect(readFileSync(path.join(restored, "head/identity.pem"), "utf8")).toBe(
      readFileSync(path.join(data, "head/identity.pem"), "utf8"),
    );
    await using again = start(restored);
    const [, other = ""] = await again.waitForLine(/msg="head is up" url=(\S+)/);
    const list = await llmnode(["alias", "list", "--head", other], { LLMNODE_DATA: restored });
    expect(list.stdout).toContain("fast");
  });

  test("what cannot be backed up or restored is told in one line", async () => {
    write("user/llmnode/config.toml", 'head = "127.0.0.1:1"\n');
    const none = await llmnode(["head", "backup", at("x"), "--data-dir", at("nothing")]);
    expect(none).toMatchObject({
      code: 5,
      stderr: expect.stringContaining("error: there is no head's state in nothing/head\n"),
    });
    expect(existsSync(at("nothing"))).toBe(false);
    const cases: [string[], number, string][] = [
      [["head", "backup"], 2, "error: head backup needs the name of a file\n"],
      [["head", "bakup", "x"], 2, 'error: head has no action "bakup": did you mean "backup"?\n'],
      [["head", "x"], 2, 'error: head has no action "x"; there are: backup, restore\n'],
      [["head", "restore", at("none"), "--data-dir", at("r")], 2, "error: none cannot be read"],
      [
        ["head", "restore", write("t", "x"), "--data-dir", at("r")],
        2,
        "error: t is no backup of a head\n",
      ],
    ];
    for (const [args, code, message] of cases) {
      expect(await llmnode(args)).toMatchObject({ code, stderr: expect.stringContaining(message) });
    }
    expect(existsSync(at("r"))).toBe(false);
  });
});
