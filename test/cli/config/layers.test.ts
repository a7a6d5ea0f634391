import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { headClient, parseHeadUrl } from "../../../src/cli/client/api.ts";
import { checkConfig } from "../../../src/cli/parse/config-check.ts";
import {
  configSources,
  type Gathered,
  gatherConfig,
  TABLES,
} from "../../../src/cli/config/layers.ts";
import { readTokenFile } from "../../../src/cli/config/contexts.ts";
import { commandTable } from "../../../src/cli/commands.ts";
import { parseCommandLine } from "../../../src/cli/parse/parse.ts";
import type { Environment } from "../../../src/cli/base/options.ts";
import { LlmnodeError } from "../../../src/protocol/errors.ts";
import { testPair } from "../../helpers/pem.ts";
import { type TempDir, tempDir } from "../../helpers/temp.ts";

let dir: TempDir;
let places: { cwd: string; systemDir: string; env: Environment };
beforeEach(() => {
  dir = tempDir();
  const at = (name: string) => path.join(dir.path, name);
  for (const name of ["here", "user/llmnode", "etc/llmnode"]) {
    mkdirSync(at(name), { recursive: true });
  }
  places = {
    cwd: at("here"),
    systemDir: at("etc"),
    env: { HOME: dir.path, XDG_CONFIG_HOME: at("user") },
  };
});
afterEach(() => dir[Symbol.dispose]());

const FILES = {
  here: "here/llmnode.toml",
  user: "user/llmnode/config.toml",
  system: "etc/llmnode/config.toml",
};

function write(name: keyof typeof FILES, content: string): string {
  const file = path.join(dir.path, FILES[name]);
  writeFileSync(file, content);
  return file;
}

function commandNamed(name: string) {
  const found = commandTable().find((command) => command.name === name);
  if (!found) throw new Error(`no ${name}`);
  return found;
}

function gather(name: string, given: string | null = null): Gathered & { warnings: string[] } {
  const warnings: string[] = [];
  const found = gatherConfig({
    ...places,
    command: commandNamed(name),
    commands: commandTable(),
    given,
    report({ isError, text }) {
      if (isError) throw new LlmnodeError("usage", text);
      warnings.push(text.replaceAll(`${dir.path}/`, ""));
    },
  });
  return { ...found, warnings };
}

function failure(work: () => unknown): string {
  try {
    work();
  } catch (error) {
    if (error instanceof LlmnodeError && error.code === "usage") {
      return error.message.replaceAll(`${dir.path}/`, "");
    }
    throw error;
  }
  return "none";
}

describe("which files count", () => {
  test("the folder's, then the user's, then the machine's, each for what the others leave out", () => {
    write(
      "system",
      '[join]\nport = 1\nname = "system"\nrestart = "no"\n[join.labels]\na = "1"\nb = "1"',
    );
    write("user", '[join]\nport = 2\nname = "user"\nhead = "u"\n[join.labels]\nb = "2"');
    write("here", '[join]\nport = 3\nhead = "h"\ncommand = ["x"]');
    const { values, argument, rest, files, warnings } = gather("join");
    const texts = (flag: string) => values.get(flag)?.map(({ text }) => text);
    expect([texts("port"), texts("name"), texts("restart")]).toEqual([["3"], ["user"], ["no"]]);
    expect(texts("label")).toEqual(["a=1", "b=1", "b=2"]);
    expect([argument?.text, rest?.words]).toEqual(["h", ["x"]]);
    expect([files.length, warnings]).toEqual([3, []]);
  });

  test("flags win over variables, which win over files, which win over defaults", () => {
    write("user", '[join]\nport = 2\nname = "file"\nrestart = "no"\nhead = "h"\ncommand = ["x"]');
    const env = { ...places.env, LLMNODE_PORT: "3", LLMNODE_NAME: "env" };
    const { options, words, rest } = parseCommandLine(["join", "--port", "4"], commandTable(), env);
    const rows = ["port", "name", "restart", "transport"].map((flag) => [
      options.text(flag),
      options.from(flag),
    ]);
    expect(rows).toEqual([
      ["4", "flag"],
      ["env", "environment"],
      ["no", "file"],
      ["auto", "default"],
    ]);
    expect([words, rest]).toEqual([["h"], ["x"]]);
  });

  test("one that was named is the only one, and must be there; /dev/null is none", () => {
    const file = write("here", "[join]\nport = 3");
    write("user", '[join]\nname = "user"');
    expect([...gather("join", file).values.keys()]).toEqual(["port"]);
    expect(gather("join", "/dev/null").files).toEqual([]);
    expect(failure(() => gather("join", path.join(dir.path, "none")))).toBe(
      "none cannot be read: there is no such file",
    );
    expect(gather("join").values.size).toBe(2);
  });

  test.each([
    ["head", true],
    ["join", true],
    ["top", false],
    ["status", false],
    ["sim", null],
    ["help", null],
    ["version", null],
    ["config", null],
  ])("%p reads those of the folder: %p", (name, isHere) => {
    for (const file of ["here", "user", "system"] as const) write(file, "debug = true");
    const { files } = gather(name);
    const shown = files.map((file) => file.path.slice(dir.path.length + 1));
    if (isHere === null) expect(shown).toEqual([]);
    else expect(shown).toEqual([FILES.system, FILES.user, ...(isHere ? [FILES.here] : [])]);
  });

  test("relative XDG folders are ignored, and no home is no file", () => {
    const of = (env: Environment) =>
      configSources({ ...places, given: null, env }).map(({ kind, path: at }) => `${kind} ${at}`);
    expect(of({ HOME: "/home/me", XDG_CONFIG_HOME: "x" })[1]).toBe(
      "user /home/me/.config/llmnode/config.toml",
    );
    expect(of({}).length).toBe(2);
    expect(configSources({ given: null, env: {} })[0]?.path).toBe("/etc/llmnode/config.toml");
  });

  test("every command with a table is one, and the other way round", () => {
    const named = commandTable().filter(({ hasConfigTable }) => hasConfigTable === true);
    expect(named.map(({ name }) => name).sort()).toEqual([...TABLES].sort());
  });
});

describe("what a file may say", () => {
  test.each([
    [
      "schema = 2",
      ["schema 2 is of a newer llmnode; this one knows 1, and leaves out what it does"],
    ],
    ["jion = 1", ['unknown key "jion": did you mean "join"?']],
    ["intreval = 1", ['unknown key "intreval"']],
    ["interval = 1", ['unknown key "interval": it belongs under [top]']],
    ["[top]\nintervall = '1s'", ['unknown key "intervall": did you mean "interval"?']],
    ["[join]\nprot = 1", []],
    ["[heads.x]\nurl = 'h'\ntoken = 'x'", ['unknown key "token"']],
    ["[sim]\nmodel = 'x'", ['unknown key "sim"']],
  ])("%p: warnings of top", (content, expected) => {
    write("user", content);
    const { warnings } = gather("top");
    expect(
      warnings.map((text) => text.replace(/^user\/llmnode\/config.toml:\d+:\d+: /, "")),
    ).toEqual(expected.map((text) => expect.stringMatching(new RegExp(`^${RegExp.escape(text)}`))));
  });

  test.each([
    ["schema = 'x'", '1:1: schema needs 1, not "x"'],
    ["schema = 0", "1:1: schema needs 1, not 0"],
    ["top = 1", "1:1: top needs a table, not 1"],
    ["head = 1", "1:1: head needs a name of [heads], an address or a table, not 1"],
    ["heads = 1", "1:1: heads needs tables such as [heads.prod], not 1"],
    ["[heads]\nprod = 'x'", '2:1: heads.prod needs a table with a url, not "x"'],
    ["[heads.prod]\nca = 'x'", "1:1: heads.prod needs a url"],
    ["[heads.prod]\n\n  url = 5", "3:3: url needs text, not 5"],
    ["timeout = 5", null],
    ["timeout = [5]", "1:1: timeout takes one value, not a list"],
    ["[top]\ninterval = true", "2:1: interval needs <duration>, not true"],
    ["[top]\n\n readonly = 'yes'", '3:2: readonly takes true or false, not "yes"'],
    ["[top", "1:"],
  ])("%p: %p", (content, message) => {
    write("user", content);
    const told = failure(() => gather("top"));
    if (message === null) expect(told).toBe("none");
    else expect(told).toStartWith(`user/llmnode/config.toml:${message}`);
  });

  test("no token comes from the current folder, and no address with a name", () => {
    write("here", '[join]\ntoken_file = "t"');
    expect(failure(() => gather("join"))).toStartWith(
      "here/llmnode.toml:2:1: token_file is not taken from a file of the current folder",
    );
    write("here", '[join]\ntoken = "t"');
    expect(failure(() => gather("join"))).toContain(
      "is not taken from a file of the current folder",
    );
    write("here", '[heads.prod]\nurl = "http://evil"');
    expect(gather("join").contexts.size).toBe(0);
    write("here", '[join]\ntoken_file = "t"');
    const found = gather("join", path.join(dir.path, FILES.here));
    expect(found.values.get("token-file")?.[0]?.text).toBe(path.join(dir.path, "here/t"));
  });

  test("a file of the folder that others may write is refused, unless it is named", () => {
    const file = write("here", "[join]\nport = 1");
    chmodSync(file, 0o666);
    expect(failure(() => gather("join"))).toBe("here/llmnode.toml can be written by everybody");
    expect(gather("join", file).values.size).toBe(1);
    expect(gather("status").values.size).toBe(0);
  });
});

describe("heads with names", () => {
  const HEADS = `
    [heads.prod]
    url = "https://head-1:8092"
    ca = "ca.pem"
    token_file = "~/prod.token"
    [heads.lab]
    url = "10.0.0.5"
  `;
  const parse = (argv: string[], env: Environment = {}) =>
    parseCommandLine(argv, commandTable(), { ...places.env, ...env }).options;

  test.each([
    [["status", "--head", "prod"], {}, "", ["https://head-1:8092", "flag", "ca.pem", "prod.token"]],
    [
      ["status"],
      { LLMNODE_HEAD: "prod" },
      "",
      ["https://head-1:8092", "environment", "ca.pem", "prod.token"],
    ],
    [["status"], {}, 'head = "prod"', ["https://head-1:8092", "file", "ca.pem", "prod.token"]],
    [["status"], {}, 'head = "lab"', ["10.0.0.5", "file", null, null]],
    [["status", "--head", "lab"], {}, 'head = "prod"', ["10.0.0.5", "flag", null, null]],
    [["status"], { LLMNODE_HEAD: "lab" }, 'head = "prod"', ["10.0.0.5", "environment", null, null]],
    [["status", "--head", "other"], {}, 'head = "prod"', ["other", "flag", null, null]],
    [["status"], {}, 'head = "10.1.1.1:9"', ["10.1.1.1:9", "file", null, null]],
    [["status"], {}, 'head = "localhost"', ["localhost", "file", null, null]],
    [["status"], {}, "", ["http://127.0.0.1:8092", "default", null, null]],
    [
      ["status", "--ca", "/my.pem"],
      {},
      'head = "prod"',
      ["https://head-1:8092", "file", "my.pem", "prod.token"],
    ],
  ])("%p %p %p", (argv, env, line, expected) => {
    write("user", `${line}\n${HEADS}`);
    const options = parse(argv, env);
    const name = (flag: string) => options.text(flag)?.split("/").at(-1) ?? null;
    expect([options.text("head"), options.from("head"), name("ca"), name("token-file")]).toEqual(
      expected,
    );
    expect(parseHeadUrl(options.text("head") ?? "")).not.toBeNull();
  });

  test("its token file is shown to it, unless a variable or a flag says otherwise", async () => {
    const token = (name: string, text: string) => {
      writeFileSync(path.join(dir.path, name), text, { mode: 0o600 });
      return path.join(dir.path, name);
    };
    write("user", HEADS);
    token("prod.token", "of-the-file\n");
    const flag = token("other", "of-the-flag\n");
    const shown = (argv: string[], env: Environment = {}) => {
      const all = { ...places.env, ...env };
      return headClient(parseCommandLine(["drain", "w", ...argv], commandTable(), all)).credential;
    };
    const prod = ["--head", "prod", "--ca", (await testPair()).into(dir.path).cert];
    expect(shown(prod)).toBe("of-the-file");
    expect(shown(prod, { LLMNODE_API_KEY: "of-the-variable" })).toBe("of-the-variable");
    expect(shown([...prod, "--token-file", flag], { LLMNODE_API_KEY: "v" })).toBe("of-the-flag");
    expect(shown(["--head", "lab"])).toBeUndefined();
  });

  test("a name that a file gives and no file explains is refused", () => {
    write("user", `head = "prd"\n${HEADS}`);
    expect(failure(() => parse(["status"]))).toBe(
      "user/llmnode/config.toml:1:1: head: there is no [heads.prd]; there are: prod, lab",
    );
    expect(parse(["status", "--head", "lab"]).text("head")).toBe("10.0.0.5");
  });

  test("a head is one file's whole: no secret goes to the address of another file", () => {
    write("system", HEADS);
    write("user", '[heads.prod]\nurl = "http://elsewhere:1"');
    const options = parse(["status", "--head", "prod"]);
    const system = gather("status").contexts.get("prod");
    expect([options.text("token-file"), system?.tokenFile]).toEqual([null, null]);
  });

  test("the join token of a worker is never that of a named head", () => {
    write(
      "user",
      `head = "prod"\n${HEADS}\n[join]\nhead = "h"\ncommand = ["x"]`.replace('head = "prod"', ""),
    );
    const { options } = parseCommandLine(["join"], commandTable(), {
      ...places.env,
      LLMNODE_HEAD: "prod",
    });
    expect(options.text("token-file")).toBeNull();
  });

  test("a token file is its owner's alone", () => {
    const file = path.join(dir.path, "token");
    writeFileSync(file, " secret\n", { mode: 0o600 });
    expect(readTokenFile(file, "token_file")).toBe("secret");
    for (const mode of [0o644, 0o640, 0o602]) {
      chmodSync(file, mode);
      let hints: readonly string[] = [];
      try {
        readTokenFile(file, "token_file");
      } catch (error) {
        if (error instanceof LlmnodeError) hints = [error.message, ...error.hints];
      }
      expect(hints).toEqual([`token_file ${file} can be read by others`, `chmod 600 ${file}`]);
    }
    const empty = path.join(dir.path, "empty");
    writeFileSync(empty, "\n", { mode: 0o600 });
    expect(failure(() => readTokenFile(empty, "x"))).toBe("x empty is empty");
    expect(failure(() => readTokenFile("/no/such", "x"))).toBe(
      "x /no/such cannot be read: there is no such file",
    );
  });
});

test("check says all that is wrong, in all files, and what it knows of one command's file", () => {
  const check = (given: string | null = null) => {
    const { files, findings } = checkConfig({ ...places, given }, commandTable());
    return {
      files: files.length,
      errors: findings
        .filter((one) => one.isError)
        .map(({ text }) => text.replaceAll(`${dir.path}/`, "")),
      warnings: findings
        .filter((one) => !one.isError)
        .map(({ text }) => text.replaceAll(`${dir.path}/`, "")),
    };
  };
  expect(check()).toEqual({ files: 0, errors: [], warnings: [] });
  writeFileSync(path.join(dir.path, "token"), "x", { mode: 0o644 });
  write(
    "user",
    `head = "lab"
foo = 1
[head]
`.replace("[head]\n", "") +
      `[join]
port = 70000
prot = 1
name = [1]
[heads.prod]
url = "x y"
token_file = "../../token"
[top]
readonly = 1
`,
  );
  write("system", "[head]\nqueue-timeout = '0s'\nx = 1\n[join]\nlabels = { rack = '1' }");
  write("here", "[join");
  expect(check()).toEqual({
    files: 2,
    errors: [
      expect.stringMatching(/^etc\/llmnode\/config.toml:2:1: queue-timeout needs more than zero/),
      "user/llmnode/config.toml:6:1: name takes one value, not a list",
      expect.stringMatching(/^user\/llmnode\/config.toml:4:1: port needs a whole number/),
      "user/llmnode/config.toml:11:1: readonly takes true or false, not 1",
      expect.stringMatching(/^user\/llmnode\/config.toml:8:1: url needs a host/),
      "user/llmnode/config.toml:9:1: token_file token can be read by others",
      expect.stringMatching(/^here\/llmnode.toml:1:\d+: /),
      "user/llmnode/config.toml:1:1: head: there is no [heads.lab]; there are: prod",
    ],
    warnings: [
      'etc/llmnode/config.toml:3:1: unknown key "x"',
      'user/llmnode/config.toml:2:1: unknown key "foo"',
      'user/llmnode/config.toml:5:1: unknown key "prot": did you mean "port"?',
    ],
  });
  const own = path.join(dir.path, "worker.toml");
  writeFileSync(own, 'head = "h"\ncommand = ["x"]\nport = 70000\nlistn = 1\n');
  expect(check(own)).toMatchObject({
    files: 1,
    errors: [
      'worker.toml:4:1: unknown key "listn"',
      expect.stringMatching(/^worker.toml:3:1: port needs a whole number/),
    ],
  });
  writeFileSync(own, 'listen = "x:y"\n');
  expect(check(own).errors).toEqual([
    expect.stringMatching(/^worker.toml:1:1: listen needs host:port/),
  ]);
  writeFileSync(own, 'listen = "127.0.0.1:1"\nschema = 1\n');
  expect(check(own)).toEqual({ files: 1, errors: [], warnings: [] });
});
