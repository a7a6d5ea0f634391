import { describe, expect, test } from "bun:test";
import { simCommand } from "../../../src/cli/commands/sim.ts";
import { FAULTS } from "../../../src/cli/sim/faults.ts";
import { readSim } from "../../../src/cli/sim/options.ts";
import { createOptions } from "../../../src/cli/base/options.ts";
import { runCli } from "../../../src/cli/run.ts";

/** What a command line writes to stdout. */
async function textOf(argv: string[]): Promise<string> {
  let text = "";
  const output = { write: () => undefined, flush: async () => undefined, isGone: false };
  const out = { ...output, write: (piece: string) => void (text += piece) };
  const terminal = { out, err: output, outIsTty: false, errIsTty: false, columns: null };
  expect(await runCli(argv, {}, { ...terminal, color: false })).toBe(0);
  return text;
}

function read(flags: Record<string, string | string[]>, env: Record<string, string> = {}) {
  const given = Object.entries({ model: "m", ...flags });
  const values = new Map(given.map(([flag, value]) => [flag, [value].flat()]));
  return readSim(createOptions(simCommand.options, { flags: values, env }));
}

test("each kind has its own port, which --port overrides", () => {
  const ports = ["vllm", "sglang", "tgi", "ollama", "llama-server"].map((like) => read({ like }));
  expect(ports.map(({ like, port }) => [like, port])).toEqual([
    ["vllm", 8000],
    ["sglang", 30_000],
    ["tgi", 3000],
    ["ollama", 11_434],
    ["llama-server", 8080],
  ]);
  expect(read({ like: "ollama", port: "0" }).port).toBe(0);
});

test("adapters, switches and times", () => {
  const wanted = read(
    {
      model: ["m", "n"],
      lora: ["a=m", "b=n"],
      "keep-alive": "50ms",
    },
    { LLMNODE_SIM_FAULT: "refuse-stream-options,slow-health=2s" },
  );
  expect(wanted).toMatchObject({
    adapters: [
      { name: "a", base: "m" },
      { name: "b", base: "n" },
    ],
    refuseStreamOptions: true,
    keepAliveMs: 50,
    healthTimeMs: 2000,
  });
});

test("faults", () => {
  expect(
    read({
      fault: [
        ...["hang-after=10s", "spam-log=10MB/s", "fail=gated", "exit-code=0"],
        ...["slow-health=1s", "idle-close=5", "fork-child", "crash-on-text=a=b", "slow-health=3s"],
      ],
    }),
  ).toMatchObject({
    hangAfterMs: 10_000,
    hangAfterRequests: null,
    spamLog: { bytes: 10_000_000, perSecond: true },
    fail: "gated",
    exitCode: 0,
    healthTimeMs: 3000,
    idleCloseS: 5,
    forkChild: true,
    crashOnText: "a=b",
    setsidChild: false,
  });
  expect(read({ fault: ["hang-after=3", "spam-log=1MiB"] })).toMatchObject({
    hangAfterMs: null,
    hangAfterRequests: 3,
    spamLog: { bytes: 1_048_576, perSecond: false },
  });
});

describe("refusals", () => {
  test.each([
    [{ like: "gpt" }, '--like needs one of vllm, sglang, tgi, ollama, llama-server, not "gpt"'],
    [{ lora: "a" }, '--lora needs name=model with one of the models, not "a"'],
    [{ lora: "a=x" }, '--lora needs name=model with one of the models, not "a=x"'],
    [{ "prefill-rate": "0" }, '--prefill-rate needs a whole number of at least 1, not "0"'],
    [{ "max-num-seqs": "0" }, '--max-num-seqs needs a whole number of at least 1, not "0"'],
    [{ "kv-tokens": "x" }, '--kv-tokens needs a whole number of at least 1, not "x"'],
    [{ fault: "crash-after=0" }, '--fault crash-after needs a whole number of at least 1, not "0"'],
    [
      { fault: "die-mid-stream=-1" },
      '--fault die-mid-stream needs a whole number of at least 1, not "-1"',
    ],
    [
      { fault: "hang-after=soon" },
      "--fault hang-after needs a duration such as 10s, or a number of requests",
    ],
    [
      { fault: "spam-log=much/s" },
      '--fault spam-log needs a size such as 100MB, or 10MB/s, not "much/s"',
    ],
    [{ fault: "fail=x" }, "--fault fail needs one of gpu_oom, "],
    [{ fault: "exit-code=256" }, "--fault exit-code needs a whole number from 0 to 255"],
    [
      { fault: "error-in-stream=0" },
      '--fault error-in-stream needs a whole number of at least 1, not "0"',
    ],
    [{ fault: "no-dnoe" }, '--fault: there is no fault "no-dnoe": did you mean "no-done"?'],
    [{ fault: "earthquake=9" }, '--fault: there is no fault "earthquake"; see: llmnode sim faults'],
    [{ fault: "no-done=1" }, "--fault no-done takes no value"],
    [{ fault: "silence" }, "--fault silence needs a value: silence=<duration>"],
    [{ fault: "silence=" }, "--fault silence needs a value: silence=<duration>"],
  ] as [Record<string, string>, string][])("%p", (flags, message) => {
    expect(() => read(flags)).toThrow(message);
  });
});

test("sim faults lists every fault with the form of its value", async () => {
  const output = await textOf(["sim", "faults"]);
  for (const { flag, value } of FAULTS) {
    expect(output).toContain(`  ${value === undefined ? flag : `${flag}=${value}`}  `);
  }
  expect(output.replace(/\s+/g, " ")).toContain("health check [default: 1s like sglang, else 0]");
});

test("a fault can be had from a configuration file as well", () => {
  const file = new Map([["fault", [{ text: "x", source: "sim.toml:3:1: fault" }]]]);
  const specs = createOptions(simCommand.options, {
    flags: new Map([["model", ["m"]]]),
    env: {},
    file,
  });
  expect(() => readSim(specs)).toThrow('sim.toml:3:1: fault: there is no fault "x"');
});
