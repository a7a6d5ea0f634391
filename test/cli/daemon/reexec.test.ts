import { expect, test } from "bun:test";
import { resolve } from "node:path";
import { withoutSecrets } from "../../../src/cli/daemon/reexec.ts";
import { runProcess } from "../../helpers/process.ts";

const FIXTURE = resolve(import.meta.dir, "../fixtures/reexec.ts");

async function start(limit: string | undefined): Promise<unknown> {
  const args = ["--name", "a b", "--", "-x", ""];
  const { code, stdout, stderr } = await runProcess([process.execPath, FIXTURE, ...args], {
    env: { BUN_CONFIG_MAX_HTTP_REQUESTS: limit, KEPT: "as it was" },
  });
  expect([code, stderr]).toEqual([0, ""]);
  return JSON.parse(stdout);
}

test.each([undefined, "", "10", "256", "65536", "100000", "nonsense"])(
  "a limit of %p is raised, in the same process, with the same arguments",
  async (limit) => {
    expect(await start(limit)).toEqual({
      samePid: true,
      limit: "65535",
      args: ["--name", "a b", "--", "-x", ""],
      purge: "1000",
      kept: "as it was",
    });
  },
);

test.each([
  [["join", "h", "--token", "t", "--name", "n", "--", "x", "--token", "engine's"], "t"],
  [["join", "--token=a", "h", "--token=b", "--", "x"], "b"],
  [["join", "h", "--token", "--", "x"], null],
  [["join", "h", "--token-file", "f", "--", "x", "--token", "y"], null],
  [["--token"], null],
  [[], null],
] as [string[], string | null][])("a join token is taken out of %p", (typed, token) => {
  const found = withoutSecrets(typed);
  expect(found.secrets).toEqual(token === null ? {} : { LLMNODE_TOKEN: token });
  if (token === null) expect(found.args).toEqual(typed);
  else {
    const end = typed.indexOf("--");
    const before = found.args.slice(0, found.args.indexOf("--"));
    expect(before.some((word) => word.includes("token"))).toBe(false);
    expect(found.args.slice(before.length)).toEqual(typed.slice(end));
  }
});

test("a proxy's credentials are taken out of the arguments, a proxy without any is not", () => {
  const words = (...proxy: string[]) => [
    "join",
    ...proxy,
    "h",
    "--",
    "x",
    "--via-proxy",
    "http://a:b@c",
  ];
  for (const typed of [["--via-proxy", "http://u:p@q:1"], ["--via-proxy=http://u:p@q:1"]]) {
    expect(withoutSecrets(words(...typed))).toEqual({
      args: words(),
      secrets: { LLMNODE_VIA_PROXY: "http://u:p@q:1" },
    });
  }
  for (const typed of [["--via-proxy"], ["--via-proxy", "http://q:1"], ["--via-proxy=env"]]) {
    expect(withoutSecrets(words(...typed))).toEqual({ args: words(...typed), secrets: {} });
  }
});

test("a join token moves from the arguments to the environment, in the same process", async () => {
  const args = ["join", "--token", "secret", "--", "x", "--token", "engine's"];
  for (const limit of [undefined, "65535"]) {
    const { stdout } = await runProcess([process.execPath, FIXTURE, ...args], {
      env: { BUN_CONFIG_MAX_HTTP_REQUESTS: limit, LLMNODE_TOKEN: "another" },
    });
    expect(JSON.parse(stdout)).toMatchObject({
      samePid: true,
      limit: "65535",
      purge: "1000",
      args: ["join", "--", "x", "--token", "engine's"],
      token: "secret",
    });
  }
});

test("a raised limit is left alone: nothing starts twice", async () => {
  expect(await start("65535")).toMatchObject({ samePid: null, limit: "65535" });
});

test("variables for the engine move there too, so that no process list shows their values", async () => {
  const args = ["join", "--env", "A=secret", "--env", "B", "--", "x", "--env", "C=engine's"];
  for (const limit of [undefined, "65535"]) {
    const { stdout } = await runProcess([process.execPath, FIXTURE, ...args], {
      env: { BUN_CONFIG_MAX_HTTP_REQUESTS: limit },
    });
    expect(JSON.parse(stdout)).toMatchObject({
      samePid: true,
      args: ["join", "--env=B", "--", "x", "--env", "C=engine's"],
      engine: { LLMNODE_SET_A: "secret" },
    });
  }
});
