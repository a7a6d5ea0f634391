import { afterAll, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import path from "node:path";
import { JOIN_OPTIONS } from "../../../src/cli/join/options.ts";
import {
  readEngineVariables,
  readEnvFile,
  withoutEngineVariables,
} from "../../../src/cli/daemon/variables.ts";
import { createOptions, type SourcedText } from "../../../src/cli/base/options.ts";
import { LlmnodeError } from "../../../src/protocol/errors.ts";
import { tempDir } from "../../helpers/temp.ts";

const dir = tempDir();
afterAll(() => dir[Symbol.dispose]());

function envFile(content: string): string {
  const file = path.join(dir.path, `${crypto.randomUUID()}.env`);
  writeFileSync(file, content);
  return file;
}

interface Given {
  env?: string[];
  files?: string[];
  /** This program's own environment. */
  own?: Record<string, string>;
  /** `env` of a configuration file. */
  config?: string[];
}

function read({ env = [], files = [], own = {}, config = [] }: Given) {
  const sourced = config.map((text): SourcedText => ({ text, source: "w.toml: env" }));
  const options = createOptions(JOIN_OPTIONS, {
    flags: new Map([
      ["env", env],
      ["env-file", files],
    ]),
    env: own,
    file: new Map([["env", sourced]]),
  });
  return readEngineVariables(options, own);
}

function failure(work: () => unknown): string {
  try {
    work();
  } catch (error) {
    if (error instanceof LlmnodeError && error.code === "usage") return error.message;
    throw error;
  }
  throw new Error("it was understood");
}

test("an engine gets this environment and what is added to it", () => {
  const own = { PATH: "/bin", HF_HOME: "/a", HF_TOKEN: "t", EMPTY: "" };
  const given = ["HF_HOME=/b", "HF_TOKEN", "EMPTY", "X=a=b c", "N="];
  const { env, withheld } = read({ own, env: given });
  expect(env).toMatchObject({ ...own, HF_HOME: "/b", X: "a=b c", N: "" });
  expect(withheld).toEqual([]);
});

test("--env wins over --env-file, a flag over a variable over the configuration file", () => {
  const files = [envFile("A=file 1\nB=file 1\nC=file 1"), envFile("B=file 2")];
  expect(read({ files, env: ["A=flag"] }).env).toMatchObject({
    A: "flag",
    B: "file 2",
    C: "file 1",
  });
  const own = { LLMNODE_SET_A: "variable", LLMNODE_SET_B: "variable", B: "own" };
  const config = ["A=config", "B=config", "C=config"];
  expect(read({ own, config, files, env: ["B"] }).env).toMatchObject({
    A: "variable",
    B: "own",
    C: "config",
  });
});

test("what is about this machine or another program is not passed on unless it is asked for", () => {
  const own = { PORT: "3000", HOSTNAME: "h", API_KEY: "k", PATH: "/bin" };
  const { env, withheld } = read({ own });
  expect([env["PORT"], env["HOSTNAME"], env["API_KEY"], env["PATH"]]).toEqual([
    ...[undefined, undefined, undefined, "/bin"],
  ]);
  expect(withheld).toEqual(["API_KEY", "PORT"]);
  const asked = read({ own, env: ["PORT", "API_KEY=mine"], files: [envFile("HOSTNAME=x")] });
  expect([asked.env["PORT"], asked.env["HOSTNAME"], asked.env["API_KEY"]]).toEqual([
    ...["3000", "x", "mine"],
  ]);
  expect(asked.withheld).toEqual([]);
  expect(read({ own: { PATH: "/bin" } }).withheld).toEqual([]);
});

test.each([
  [["HF_TOKEN"], "--env HF_TOKEN: it is not set here; export it first, or write NAME=value"],
  [["=secret"], "--env needs NAME=value or NAME, and this has no name that a variable can have"],
  [["a b=secret"], "--env needs NAME=value or NAME, and"],
  [[`${"x".repeat(300)}=1`], "--env needs NAME=value or NAME, and"],
  [["LLMNODE_TOKEN=x"], "--env LLMNODE_TOKEN: engines are not given what is meant for llmnode"],
])("%p: %p", (env, message) => {
  expect(failure(() => read({ env }))).toStartWith(message);
});

test("what came by a variable of ours is told by its own name", () => {
  const own = { LLMNODE_SET_LLMNODE_X: "secret" };
  expect(failure(() => read({ own }))).toStartWith("--env LLMNODE_X: engines are not given");
  expect(failure(() => read({ config: ["NONE"] }))).toStartWith("w.toml: env NONE: it is not set");
});

test("an env file is read as docker reads it", () => {
  const file = envFile(
    "\ufeff# comment\n\n  A=1\r\nB = no trim \nC=\"q\" # kept\nD=\n  # another\nE='x=y'\nA=2",
  );
  expect(failure(() => readEnvFile(file))).toContain(":4 needs NAME=value");
  const good = envFile("\ufeff# c\n\n  A=1\r\nC=\"q\" # kept \nD=\n  # d\nE='x=y'\nA=2");
  expect(readEnvFile(good)).toEqual([
    ["A", "1"],
    ["C", '"q" # kept '],
    ["D", ""],
    ["E", "'x=y'"],
    ["A", "2"],
  ]);
});

test("a bad line of an env file is told by its place, and never shown", () => {
  const bare = envFile("A=1\nhf_secret\n");
  expect(failure(() => readEnvFile(bare))).toBe(
    `${bare}:2 has no "=": write NAME=value, or pass the shell's own by --env NAME`,
  );
  const exported = envFile("export HF_TOKEN=secret");
  expect(failure(() => readEnvFile(exported))).toBe(
    `${exported}:1 says "export": write NAME=value alone`,
  );
  const spaced = envFile("HF TOKEN=secret");
  expect(failure(() => readEnvFile(spaced))).not.toContain("secret");
  expect(failure(() => readEnvFile("/no/such"))).toBe(
    "--env-file /no/such cannot be read: there is no such file",
  );
});

test.each([
  [["join", "--env", "A=1", "h", "--", "x", "--env", "B=2"], { A: "1" }, ["join", "h"]],
  [["--env=A=1", "--env", "B=x y"], { A: "1", B: "x y" }, []],
  [["--env", "A=1", "--env=A=2", "--env", "C="], { A: "2", C: "" }, []],
  [["--env", "A=a=b\nc"], { A: "a=b\nc" }, []],
  [["--env", "A"], {}, ["--env=A"]],
  [["--env", "A", "--env", "A=1"], { A: "1" }, []],
  [["--env", "A=1", "--env", "A"], {}, ["--env=A"]],
  [["--env"], {}, ["--env"]],
  [["--env", "--name", "n"], {}, ["--env", "--name", "n"]],
  [["--env", "--", "A=1"], {}, ["--env"]],
  [["--env", "=1"], {}, ["--env==1"]],
  [["--env-file", "f=1"], {}, ["--env-file", "f=1"]],
] as [string[], Record<string, string>, string[]][])(
  "values are taken out of %p",
  (typed, variables, kept) => {
    const end = typed.indexOf("--");
    const found = withoutEngineVariables(typed);
    expect(found.args).toEqual([...kept, ...(end === -1 ? [] : typed.slice(end))]);
    const moved = Object.entries(variables).map(([name, value]) => [`LLMNODE_SET_${name}`, value]);
    expect(found.variables).toEqual(Object.fromEntries(moved));
    expect(withoutEngineVariables(found.args)).toEqual({ args: found.args, variables: {} });
  },
);
