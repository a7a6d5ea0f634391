import { afterAll, beforeAll, expect, test } from "bun:test";
import { resolve } from "node:path";
import { FAST, startTestHead, type TestHead } from "../../helpers/cluster.ts";
import { runProcess } from "../../helpers/process.ts";
import { tempDir } from "../../helpers/temp.ts";

const MAIN = resolve(import.meta.dir, "../../../src/main.ts");
const home = tempDir();
let head: TestHead;

beforeAll(async () => {
  head = await startTestHead(FAST);
});
afterAll(async () => {
  await head[Symbol.asyncDispose]();
  home[Symbol.dispose]();
});

async function alias(...args: string[]) {
  const settings = Object.keys(process.env).filter((key) => key.startsWith("LLMNODE_"));
  const env = Object.fromEntries(settings.map((key) => [key, undefined]));
  return await runProcess([process.execPath, MAIN, "alias", ...args, "--head", head.url], {
    env: { ...env, HOME: home.path, LLMNODE_DATA: head.dataDir },
    timeoutMs: 20_000,
  });
}

test("set, list, show and rm, in words and as JSON", async () => {
  const empty = await alias("list");
  expect(empty).toEqual({
    code: 0,
    stdout: "",
    stderr: "no aliases (yet). Add one: llmnode alias set fast=<model>\n",
  });
  expect(await alias("set", "fast=A:80,B?k.e=true&t=x:20")).toEqual({
    code: 0,
    stdout: "",
    stderr: "fast: set\n  no worker has the model A now\n  no worker has the model B now\n",
  });
  expect(JSON.parse((await alias("set", "all=fast,C", "--json")).stdout)).toMatchObject({
    schema: "llmnode.admin/1",
    alias: { name: "all", text: "fast,C", models: ["A", "B", "C"] },
    warnings: expect.any(Array),
  });
  expect((await alias("list")).stdout).toBe(
    "NAME   TARGETS\nall    fast,C\nfast   A:80,B?k.e=true&t=x:20\n",
  );
  expect(JSON.parse((await alias("list", "--json")).stdout)).toMatchObject({
    schema: "llmnode.admin/1",
    aliases: [{ name: "all" }, { name: "fast" }],
  });
  expect((await alias("show", "fast")).stdout).toMatch(
    /^fast\n {2}A {3}80 %\n {2}B {3}20 %\n {4}k\.e = true\n {4}t = "x"\nset {6}2\d{3}-\d\d-\d\d \d\d:\d\d\n$/,
  );
  expect((await alias("show", "all")).stdout).toContain("models   A, B, C\n");
  expect(JSON.parse((await alias("show", "fast", "--json")).stdout)).toMatchObject({
    schema: "llmnode.admin/1",
    alias: { name: "fast", targets: [{ weight_percent: 80 }, { weight_percent: 20 }] },
  });
  expect(await alias("rm", "fast")).toEqual({
    code: 0,
    stdout: "",
    stderr: "fast: removed\n  all still points to fast, which is now read as a model\n",
  });
  expect((await alias("rm", "all")).code).toBe(0);
  expect((await alias("list", "--json")).stdout).toContain('"aliases":[]');
});

test.each([
  [[], 2, "alias needs <action>: "],
  [["sett", "a=b"], 2, 'alias has no action "sett": did you mean "set"?'],
  [["constructor"], 2, 'alias has no action "constructor"; there are: set, list, show, rm'],
  [["set"], 2, "alias set needs <name>=<model>"],
  [["set", "fast"], 2, "an alias is written <name>=<model>"],
  [["set", "=A"], 2, "an alias's name must not be empty"],
  [["set", ""], 2, "alias set needs <name>=<model>"],
  [["set", "a=A:50,B:20"], 2, "the weights of a add up to 70, not to 100"],
  [["set", "a=A?stream=true"], 2, "a preset cannot set stream"],
  [["set", "a=a"], 6, "a would point to itself: a -> a"],
  [["set", "a=b", "c"], 2, 'alias: unexpected argument "c"'],
  [["list", "x"], 2, 'alias list: unexpected argument "x"'],
  [["show"], 2, "alias show needs the name of an alias"],
  [["show", "gone"], 5, "there is no alias gone"],
  [["rm", "gone"], 5, "there is no alias gone"],
] as [string[], number, string][])("alias %j: one clear line", async (args, code, message) => {
  const { stdout, stderr, ...result } = await alias(...args);
  expect([result.code, stdout]).toEqual([code, ""]);
  expect(stderr.split("\n")[0]).toContain(`error: ${message}`);
  const listed = await alias("list");
  expect(listed.stdout).toBe("");
});
