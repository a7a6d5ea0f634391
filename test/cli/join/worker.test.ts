import { expect, test } from "bun:test";
import { commandTable } from "../../../src/cli/commands.ts";
import { readWorker } from "../../../src/cli/join/worker.ts";
import { createOptions } from "../../../src/cli/base/options.ts";
import { parseCommandLine } from "../../../src/cli/parse/parse.ts";
import { SUPERVISOR_DEFAULTS } from "../../../src/engine/supervise/settings.ts";
import { LlmnodeError } from "../../../src/protocol/errors.ts";
import { WORKER_DEFAULTS } from "../../../src/worker/options.ts";

function read(argv: string[], env: Record<string, string> = {}) {
  const engine = argv.includes("--attach") ? [] : ["--", "x"];
  return readWorker(parseCommandLine(["join", "h", ...argv, ...engine], commandTable(), env));
}

function failure(argv: string[], env: Record<string, string> = {}): string {
  try {
    read(argv, env);
  } catch (error) {
    if (error instanceof LlmnodeError && error.code === "usage") return error.message;
    throw error;
  }
  throw new Error("it was understood");
}

test("nothing said", () => {
  expect(read([])).toEqual({
    head: { host: "h", port: 8093 },
    engine: {
      argv: ["x"],
      service: null,
      port: null,
      healthPath: null,
      startTimeoutMs: SUPERVISOR_DEFAULTS.startTimeoutMs,
      restart: "always",
      adopt: true,
      gpus: null,
      maxInFlight: null,
      cwd: null,
    },
    name: null,
    labels: {},
    stallRestart: "auto",
    adoptRunning: false,
    insecure: false,
    data: "auto",
    advertise: null,
    until: null,
    settings: { drainTimeoutMs: WORKER_DEFAULTS.drainTimeoutMs },
  });
});

test.each([
  [["--service", "tts-1"], { engine: { service: "tts-1" } }],
  [["--health-path", "/v1/x?a=b"], { engine: { healthPath: "/v1/x?a=b" } }],
  [["--health-path", "/"], { engine: { healthPath: "/" } }],
  [["--start-timeout", "0"], { engine: { startTimeoutMs: 0 } }],
  [
    ["--restart", "no", "--no-adopt", "--adopt-running"],
    { engine: { restart: "no", adopt: false }, adoptRunning: true },
  ],
  [["--stall-restart", "off"], { stallRestart: "off" }],
  [["--gpus", "GPU-5b1c,GPU-77aa"], { engine: { gpus: "GPU-5b1c,GPU-77aa" } }],
  [["--max-in-flight", "12"], { engine: { maxInFlight: 12 } }],
  [["--cwd", "/srv"], { engine: { cwd: "/srv" } }],
  [["--label", "a=", "--label", "b/c=d:e"], { labels: { a: "", "b/c": "d:e" } }],
  [["--until", "2100-01-01T00:00:00Z"], { until: Date.UTC(2100, 0, 1) }],
  [["--drain-timeout", "2m"], { settings: { drainTimeoutMs: 120_000 } }],
  [
    ["--attach", "h:1", "--adopt-running"],
    { engine: { attach: "http://h:1" }, adoptRunning: true },
  ],
] as [string[], object][])("%p", (argv, wanted) => {
  expect(read(argv)).toMatchObject(wanted);
});

test.each([
  [["--service", "TTS"], '--service needs at most 63 small letters, digits and dashes, not "TTS"'],
  [["--service", "a/b"], "--service needs"],
  [["--service", "a".repeat(64)], "--service needs"],
  [["--service", "llm"], '--service: "llm" is the name of all models'],
  [["--health-path", "health"], '--health-path needs a path such as /healthz, not "health"'],
  [["--health-path", "//evil/x"], "--health-path needs"],
  [["--health-path", "/a b"], "--health-path needs"],
  [["--start-timeout", "10"], "--start-timeout needs a duration such as"],
  [["--restart", "never"], '--restart needs one of always, on-failure, no, not "never"'],
  [["--max-in-flight", "0"], "--max-in-flight needs a whole number from 1"],
  [["--label", "rack"], '--label needs key=value, not "rack"'],
  [["--label", "=x"], '--label needs key=value, not "=x"'],
  [["--label", "a=b c"], "--label needs a key and a value of letters"],
  [["--until", "soon"], "--until needs a time such as 18:30, +2h30m"],
  [["--until", "@1"], "--until is in the past: 1970-01-01T00:00:01.000Z"],
  [["--drain-timeout", "x"], "--drain-timeout needs a duration"],
  [["--name", "a/b"], "--name needs at most 63 letters"],
  [["--attach", "h:1", "--port", "1"], "--port and --attach exclude each other: the port is"],
  [["--attach", "h:1", "--cwd", "/"], "--cwd and --attach exclude each other: that engine"],
  [["--attach", "h:1", "--env", "A=1"], "--env and --attach exclude each other"],
  [["--attach", "h:1", "--restart", "no"], "--restart and --attach exclude each other"],
] as [string[], string][])("%p: %p", (argv, message) => {
  expect(failure(argv)).toStartWith(message);
});

test("an option's variable is named when it is wrong", () => {
  expect(failure([], { LLMNODE_RESTART: "maybe" })).toStartWith("LLMNODE_RESTART needs one of");
  expect(failure([], { LLMNODE_LABEL: "a=b,c" })).toBe('LLMNODE_LABEL needs key=value, not "c"');
  expect(failure([], { LLMNODE_UNTIL: "@1" })).toStartWith("LLMNODE_UNTIL is in the past");
});

test("the defaults in the table are those of the roles", () => {
  const command = commandTable().find(({ name }) => name === "join");
  const options = createOptions(command?.options ?? [], { flags: new Map(), env: {} });
  expect(options.durationMs("drain-timeout")).toBe(WORKER_DEFAULTS.drainTimeoutMs);
  expect(options.durationMs("start-timeout")).toBe(SUPERVISOR_DEFAULTS.startTimeoutMs);
});
