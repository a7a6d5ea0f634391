import { describe, expect, test } from "bun:test";
import { readSim, simCommand } from "../../../src/cli/commands/sim.ts";
import { createOptions } from "../../../src/cli/base/options.ts";

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
      "refuse-stream-options": "true",
      "keep-alive": "50ms",
    },
    { LLMNODE_SIM_HEALTH_TIME: "2s" },
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
      "hang-after": "10s",
      "spam-log": "10MB/s",
      fail: "gated",
      "exit-code": "0",
      "slow-health": "3s",
      "health-time": "1s",
      "idle-close": "5",
      "fork-child": "true",
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
    setsidChild: false,
  });
  expect(read({ "hang-after": "3", "spam-log": "1MiB" })).toMatchObject({
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
    [{ "crash-after": "0" }, '--crash-after needs a whole number of at least 1, not "0"'],
    [{ "die-mid-stream": "-1" }, '--die-mid-stream needs a whole number of at least 1, not "-1"'],
    [
      { "hang-after": "soon" },
      "--hang-after needs a duration such as 10s, or a number of requests",
    ],
    [{ "spam-log": "much/s" }, '--spam-log needs a size such as 100MB, or 10MB/s, not "much/s"'],
    [{ fail: "x" }, "--fail needs one of gpu_oom, "],
    [{ "exit-code": "256" }, "--exit-code needs a whole number from 0 to 255"],
    [{ "error-in-stream": "0" }, '--error-in-stream needs a whole number of at least 1, not "0"'],
  ] as [Record<string, string>, string][])("%p", (flags, message) => {
    expect(() => read(flags)).toThrow(message);
  });
});
