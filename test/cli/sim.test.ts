import { describe, expect, test } from "bun:test";
import { readSim, simCommand } from "../../src/cli/commands/sim.ts";
import { createOptions } from "../../src/cli/options.ts";

function read(flags: Record<string, string | string[]>, env: Record<string, string> = {}) {
  const given = Object.entries({ model: "m", ...flags });
  const values = new Map(given.map(([flag, value]) => [flag, [value].flat()]));
  return readSim(createOptions(simCommand.options, values, env));
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

describe("refusals", () => {
  test.each([
    [{ like: "gpt" }, '--like needs one of vllm, sglang, tgi, ollama, llama-server, not "gpt"'],
    [{ lora: "a" }, '--lora needs name=model with one of the models, not "a"'],
    [{ lora: "a=x" }, '--lora needs name=model with one of the models, not "a=x"'],
    [{ "crash-after": "0" }, '--crash-after needs a whole number of at least 1, not "0"'],
    [{ "die-mid-stream": "-1" }, '--die-mid-stream needs a whole number of at least 1, not "-1"'],
    [{ "error-in-stream": "0" }, '--error-in-stream needs a whole number of at least 1, not "0"'],
  ] as [Record<string, string>, string][])("%p", (flags, message) => {
    expect(() => read(flags)).toThrow(message);
  });
});
