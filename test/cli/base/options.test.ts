import { expect, test } from "bun:test";
import {
  createOptions,
  type Options,
  type SourcedText,
  type OptionSpec,
} from "../../../src/cli/base/options.ts";
import { LlmnodeError } from "../../../src/protocol/errors.ts";

const SPECS: OptionSpec[] = [
  { flag: "port", value: "<port>", env: "LLMNODE_PORT", default: "8000", summary: "" },
  { flag: "name", value: "<name>", env: "LLMNODE_NAME", summary: "" },
  { flag: "label", value: "<k=v>", repeat: true, env: "LLMNODE_LABEL", summary: "" },
  { flag: "tag", value: "<t>", repeat: true, merges: true, env: "LLMNODE_TAG", summary: "" },
  { flag: "wait", value: "<duration>", env: "LLMNODE_WAIT", summary: "" },
  { flag: "size", value: "<size>", summary: "" },
  { flag: "rate", value: "<share>", summary: "" },
  { flag: "level", value: "<level>", default: "info", summary: "" },
  { flag: "insecure", env: "LLMNODE_INSECURE", summary: "" },
];

function given(
  flags: Record<string, string[]>,
  env: Record<string, string> = {},
  file: Map<string, SourcedText[]> = new Map(),
): Options {
  return createOptions(SPECS, { flags: new Map(Object.entries(flags)), env, file });
}

function failure(read: () => unknown): string {
  try {
    read();
  } catch (error) {
    if (error instanceof LlmnodeError && error.code === "usage") return error.message;
    throw error;
  }
  throw new Error("nothing was thrown");
}

const PORT = { min: 1, max: 65_535 };

test("flags win over the environment, which wins over defaults", () => {
  const env = { LLMNODE_PORT: "9000", LLMNODE_NAME: "from-env" };
  expect(given({ port: ["7000"] }, env).integer("port", PORT)).toBe(7000);
  expect(given({}, env).integer("port", PORT)).toBe(9000);
  expect(given({}).integer("port", PORT)).toBe(8000);
  expect(given({}, env).text("name")).toBe("from-env");
  expect(given({}).text("name")).toBeNull();
  expect([given({}, env).isGiven("port"), given({}).isGiven("port")]).toEqual([true, false]);
});

test("an empty variable counts as absent", () => {
  expect(given({}, { LLMNODE_PORT: "", LLMNODE_NAME: "" }).integer("port", PORT)).toBe(8000);
  expect(given({}, { LLMNODE_INSECURE: "" }).isOn("insecure")).toBe(false);
});

test("a variable that Kubernetes made counts as absent", () => {
  const env = { LLMNODE_PORT: "tcp://10.43.0.9:8092" };
  expect(given({}, env).integer("port", PORT)).toBe(8000);
});

test("repeatable options keep all values, others the last", () => {
  expect(given({ label: ["a=1", "b=2"] }).texts("label")).toEqual(["a=1", "b=2"]);
  expect(given({}, { LLMNODE_LABEL: "a=1,b=2" }).texts("label")).toEqual(["a=1", "b=2"]);
  expect(given({ name: ["x", "y"] }).text("name")).toBe("y");
});

test("a file stands between the environment and defaults", () => {
  const file = new Map([["port", [{ text: "x", source: "f.toml: port" }]]]);
  const env = { LLMNODE_PORT: "9000" };
  expect(given({}, env, file).integer("port", PORT)).toBe(9000);
  expect(failure(() => given({}, {}, file).integer("port", PORT))).toStartWith(
    "f.toml: port needs a whole number",
  );
  expect([given({}, {}, file).from("port"), given({}).named("port")]).toEqual(["file", "--port"]);
});

test("options that merge keep the values of all sources, the strongest last", () => {
  const values = (text: string) => [{ text, source: "f.toml: tag" }];
  const file = new Map([["tag", values("a")]]);
  const all = given({ tag: ["c"] }, { LLMNODE_TAG: "b" }, file);
  expect(all.texts("tag")).toEqual(["a", "b", "c"]);
  expect(all.each("tag").map(({ source }) => source)).toEqual([
    ...["f.toml: tag", "LLMNODE_TAG", "--tag"],
  ]);
});

test("switches understand what people write", () => {
  const on = (value: string) => given({}, { LLMNODE_INSECURE: value }).isOn("insecure");
  expect(["1", "true", "Yes", "on"].map(on)).toEqual([true, true, true, true]);
  expect(["0", "false", "no", "OFF"].map(on)).toEqual([false, false, false, false]);
  expect(failure(() => on("maybe"))).toBe('LLMNODE_INSECURE needs 1 or 0, not "maybe"');
});

test.each(["0", "65536", "-1", "1.5", "0x10", "1e3", "", " 80", "eighty"])(
  "%p is no port",
  (text) => {
    const message = failure(() => given({ port: [text] }).integer("port", PORT));
    expect(message).toBe(`--port needs a whole number from 1 to 65535, not "${text.trimEnd()}"`);
  },
);

test("an error names where the value came from, on one safe line", () => {
  const read = () => given({}, { LLMNODE_PORT: "a\u001b[31m\nb" }).integer("port", PORT);
  expect(failure(read)).toBe('LLMNODE_PORT needs a whole number from 1 to 65535, not "a b"');
});

test("durations, sizes, shares and choices", () => {
  expect(given({ wait: ["1.5s"] }).durationMs("wait")).toBe(1500);
  expect(failure(() => given({ wait: ["10"] }).durationMs("wait"))).toContain("such as 500ms");
  const sizes = ["20MB", "256MiB", "1.5g", "0", "4096", "2 kb"];
  expect(sizes.map((text) => given({ size: [text] }).bytes("size"))).toEqual([
    20_000_000, 268_435_456, 1_610_612_736, 0, 4096, 2000,
  ]);
  for (const text of ["", "x", "1x", "-1", "1 2", "MB"]) {
    expect(failure(() => given({ size: [text] }).bytes("size"))).toContain("--size needs a size");
  }
  expect(given({ rate: ["0.25"] }).number("rate", { min: 0, max: 1 })).toBe(0.25);
  expect(failure(() => given({ rate: ["2"] }).number("rate", { min: 0, max: 1 }))).toBe(
    '--rate needs a number from 0 to 1, not "2"',
  );
  expect(given({}).choice("level", ["debug", "info"])).toBe("info");
  expect(failure(() => given({ level: ["loud"] }).choice("level", ["debug", "info"]))).toBe(
    '--level needs one of debug, info, not "loud"',
  );
});

test("asking for an option that a command does not have is a bug", () => {
  expect(() => given({}).text("bogus")).toThrow("no option --bogus");
});
