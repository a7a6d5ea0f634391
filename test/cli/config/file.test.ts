import { afterAll, expect, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { commandTable } from "../../../src/cli/commands.ts";
import { readWorker } from "../../../src/cli/join/worker.ts";
import { parseCommandLine } from "../../../src/cli/parse/parse.ts";
import type { EngineSpec, EngineTarget } from "../../../src/engine/spec.ts";
import { LlmnodeError } from "../../../src/protocol/errors.ts";
import { tempDir } from "../../helpers/temp.ts";

const dir = tempDir();
afterAll(() => dir[Symbol.dispose]());

const FILE = path.join(dir.path, "worker.toml");
const HEAD_AND_COMMAND = 'head = "h"\ncommand = ["x"]\n';

/** A join command line with a configuration file of this content. */
function join(content: string | Uint8Array, argv: string[] = [], env: object = {}) {
  writeFileSync(FILE, content);
  const typed = ["join", "--config", FILE, ...argv];
  return parseCommandLine(typed, commandTable(), { HOME: "/home/me", ...env });
}

function failure(content: string | Uint8Array, argv: string[] = [], env: object = {}): string {
  try {
    readWorker(join(content, argv, env));
  } catch (error) {
    if (error instanceof LlmnodeError && error.code === "usage") {
      // Tests of their own are about the places.
      return error.message
        .replaceAll(/\S*worker\.toml:\d+:\d+: /g, "worker.toml: ")
        .replaceAll(FILE, "worker.toml");
    }
    throw error;
  }
  throw new Error("it was understood");
}

test("a file alone says it all", () => {
  const wanted = readWorker(
    join(`
      head = "10.0.0.5:9093"
      command = ["vllm", "serve", "a b", "--port", 8080]
      name = "gpu-1"
      service = "tts"
      port = 8080
      health_path = "/healthz"
      start-timeout = "10m"
      restart = "on-failure"
      adopt = false
      adopt-running = true
      gpus = "0,1"
      max-in-flight = 64
      cwd = "models"
      drain_timeout = "5s"
      insecure = true
      transport = "lane"
      until = 2100-01-01T00:00:00Z
      [labels]
      rack = "3"
      slot = 7
      [env]
      HF_HOME = "/data/hf"
    `),
  );
  expect(wanted).toEqual({
    head: { host: "10.0.0.5", port: 9093 },
    engine: {
      argv: ["vllm", "serve", "a b", "--port", "8080"],
      service: "tts",
      port: 8080,
      healthPath: "/healthz",
      startTimeoutMs: 600_000,
      restart: "on-failure",
      adopt: false,
      gpus: "0,1",
      maxInFlight: 64,
      cwd: path.join(dir.path, "models"),
    },
    name: "gpu-1",
    labels: { rack: "3", slot: "7" },
    stallRestart: "auto",
    adoptRunning: true,
    insecure: true,
    data: "lane",
    advertise: null,
    until: Date.UTC(2100, 0, 1),
    settings: { drainTimeoutMs: 5000 },
  });
});

const targetOf = (engine: EngineSpec): EngineTarget =>
  "argv" in engine ? { argv: engine.argv } : { attach: engine.attach };

test("an engine that runs already", () => {
  const { engine, head } = readWorker(join('head = "h"\nattach = "http://127.0.0.1:11434"'));
  expect([targetOf(engine), head.port]).toEqual([{ attach: "http://127.0.0.1:11434" }, 8093]);
});

test("flags win over the environment, which wins over the file, which wins over defaults", () => {
  const content = `${HEAD_AND_COMMAND}port = 1\nname = "file"\nrestart = "no"`;
  const { options } = join(content, ["--port", "3"], { LLMNODE_PORT: "2", LLMNODE_NAME: "env" });
  const all = ["port", "name", "restart", "transport"];
  expect(all.map((flag) => [options.text(flag), options.from(flag)])).toEqual([
    ["3", "flag"],
    ["env", "environment"],
    ["no", "file"],
    ["auto", "default"],
  ]);
  expect(options.named("restart")).toBe(`${FILE}:5:1: restart`);
});

test("LLMNODE_CONFIG names the file too", () => {
  writeFileSync(FILE, HEAD_AND_COMMAND);
  const env = { LLMNODE_CONFIG: FILE };
  expect(parseCommandLine(["join"], commandTable(), env).words).toEqual(["h"]);
});

test("labels and variables of all sources count, by name the strongest", () => {
  const found = join(
    `${HEAD_AND_COMMAND}env = ["A=1", "B"]\n[labels]\nrack = "1"\nzone = "a"`,
    ["--label", "rack=3"],
    { LLMNODE_LABEL: "rack=2,row=5" },
  );
  expect(readWorker(found).labels).toEqual({ rack: "3", zone: "a", row: "5" });
  expect(found.options.texts("env")).toEqual(["A=1", "B"]);
});

test("a typed head and engine win over those of the file", () => {
  const engine = (content: string, ...argv: string[]) =>
    targetOf(readWorker(join(content, argv)).engine);
  const attach = "http://127.0.0.1:1";
  const file = `head = "h"\nattach = "${attach}"`;
  expect(readWorker(join(HEAD_AND_COMMAND, ["other"])).head.host).toBe("other");
  expect(engine(HEAD_AND_COMMAND, "--", "y")).toEqual({ argv: ["y"] });
  expect(engine(HEAD_AND_COMMAND, "--attach", attach)).toEqual({ attach });
  expect(engine(file, "--", "y")).toEqual({ argv: ["y"] });
  const typed = readWorker(join(HEAD_AND_COMMAND, [], { LLMNODE_ATTACH: attach })).engine;
  expect(targetOf(typed)).toEqual({ attach });
});

test("paths start at the file's folder, at home, or at the root", () => {
  const content = 'cwd = "a"\nenv-file = ["../b", "~/c", "/d"]\ntoken-file = "-"\ndata-dir = "~/x"';
  const { options } = join(HEAD_AND_COMMAND + content);
  expect(options.text("cwd")).toBe(path.join(dir.path, "a"));
  expect(options.texts("env-file")).toEqual([
    path.join(path.dirname(dir.path), "b"),
    "/home/me/c",
    "/d",
  ]);
  expect([options.text("token-file"), options.text("data-dir")]).toEqual(["-", "/home/me/x"]);
});

test("switches are true or false, also those that a flag can only turn off", () => {
  const isOn = (line: string, flag: string, ...argv: string[]) =>
    join(`${HEAD_AND_COMMAND}${line}`, argv).options.isOn(flag);
  expect(isOn("insecure = true", "insecure")).toBe(true);
  expect(isOn("insecure = true", "insecure", "--insecure=false")).toBe(false);
  expect(isOn("no-adopt = true", "no-adopt")).toBe(true);
  expect(isOn("adopt = true", "no-adopt")).toBe(false);
  expect(isOn("debug = true", "debug")).toBe(true);
  const proxy = (value: string) =>
    join(`${HEAD_AND_COMMAND}via-proxy = ${value}`).options.text("via-proxy");
  expect(["true", "false", '"http://p:1"'].map(proxy)).toEqual(["env", "off", "http://p:1"]);
});

test("other commands that run until they are stopped take a file as well", () => {
  writeFileSync(FILE, 'listen = "127.0.0.1:1"\nmax_body_size = "1MiB"\ntls-cert = "cert.pem"');
  const { options } = parseCommandLine(["head", "--config", FILE], commandTable(), {});
  expect([options.text("listen"), options.bytes("max-body-size")]).toEqual([
    "127.0.0.1:1",
    1 << 20,
  ]);
  expect(options.text("tls-cert")).toBe(path.join(dir.path, "cert.pem"));
  expect(() => parseCommandLine(["status", `--config=${FILE}`], commandTable(), {})).toThrow(
    "unknown option --config for status",
  );
});

test.each([
  ["prot = 1", 'worker.toml: unknown key "prot": did you mean "port"?'],
  ["label_s = 1", 'worker.toml: unknown key "label_s": did you mean "labels"?'],
  ["comand = 1", 'worker.toml: unknown key "comand": did you mean "command"?'],
  ["[engine]\nport = 1", 'worker.toml: unknown key "engine"'],
  ["config = 'x'", 'worker.toml: unknown key "config"'],
  ["timeout = '5s'", 'worker.toml: unknown key "timeout"'],
  ["__proto__ = 1", 'worker.toml: unknown key "__proto__"'],
  ["port = [1]", "worker.toml: port takes one value, not a list"],
  ["port = true", "worker.toml: port needs <port>, not true"],
  ["port = nan", "worker.toml: port needs <port>, not NaN"],
  ["port = 65536", 'worker.toml: port needs a whole number from 1 to 65535, not "65536"'],
  ["name = { a = 1 }", "worker.toml: name needs <name>, not a table"],
  ["name = ''", "worker.toml: name is empty"],
  ["insecure = 'yes'", 'worker.toml: insecure takes true or false, not "yes"'],
  ["insecure = 1", "worker.toml: insecure takes true or false, not 1"],
  ["start-timeout = 600", "worker.toml: start-timeout needs a duration such as 500ms, 30s or 10m"],
  ["restart = 'never'", "worker.toml: restart needs one of always, on-failure, no"],
  ["until = 'soon'", "worker.toml: until needs a time such as 18:30"],
  ["until = 2001-01-01T00:00:00Z", "worker.toml: until is in the past: 2001-01-01T00:00:00.000Z"],
  ["labels = { 'a b' = 'c' }", "worker.toml: labels.a b needs a key and a value of letters"],
  ["labels = { a = [1] }", "worker.toml: labels.a needs text, not a list"],
  ["[env]\nA = true", "worker.toml: env.A needs text, not true"],
  [
    "log_level = 'info'\nlog-level = 'info'",
    "worker.toml: log-level says again what worker.toml: log_level",
  ],
  ["no-adopt = true\nadopt = true", "worker.toml: adopt says again what worker.toml: no-adopt"],
  ["attach = 'http://h:1'", "either worker.toml: attach or command, not both"],
])("%p: %p", (line, message) => {
  expect(failure(`${HEAD_AND_COMMAND}${line}`)).toStartWith(message);
});

test.each([
  ["head = 1.5\ncommand = ['x']", "worker.toml: head needs text, not 1.5"],
  ["head = ''\ncommand = ['x']", "worker.toml: head is empty"],
  ["head = ['x']", "worker.toml: head needs text, not a list"],
  ["head = 'h'", "join needs an engine"],
  ["command = ['x']", "join needs <head>: llmnode join <head>"],
  ["head = 'h'\ncommand = []", "worker.toml: command takes a list of words: command = ["],
  ["head = 'h'\ncommand = 'vllm serve'", "worker.toml: command takes a list of words"],
  ["head = 'h'\ncommand = [['x']]", "worker.toml: command needs text, not a list"],
  ["head = 'h'\nattach = 'http://h:1'\ncwd = 'x'", "worker.toml: cwd and worker.toml: attach"],
])("%p: %p", (content, message) => {
  expect(failure(content)).toStartWith(message);
});

test("a file that cannot be read is told in one line", () => {
  const of = (file: string) => {
    try {
      parseCommandLine(["join", "--config", file], commandTable(), {});
    } catch (error) {
      return error instanceof LlmnodeError && `${error.code}: ${error.message}`;
    }
    return null;
  };
  expect(of("/no/such.toml")).toBe("usage: /no/such.toml cannot be read: there is no such file");
  expect(of(dir.path)).toBe(`usage: ${dir.path} is a folder`);
  expect(of("/dev/zero")).toBe("usage: /dev/zero is not a regular file");
  expect(failure(new Uint8Array([0xff, 0xfe, 0x61]))).toBe("worker.toml is not UTF-8 text");
  expect(failure("a".repeat(64 * 1024 + 1))).toBe("worker.toml is larger than 65536 bytes");
});

test("the file that the documents show is one", () => {
  const page = readFileSync(path.resolve(import.meta.dir, "../../../docs/workers.md"), "utf8");
  const content = /```toml\n([^]*?)```/.exec(page)?.[1] ?? "";
  const { engine, labels } = readWorker(join(content));
  expect("argv" in engine && engine.argv.slice(0, 2)).toEqual(["vllm", "serve"]);
  expect([engine.gpus, labels]).toEqual(["0,1", { rack: "3" }]);
});
