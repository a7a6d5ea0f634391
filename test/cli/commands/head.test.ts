import { expect, test } from "bun:test";
import { createOptions } from "../../../src/cli/base/options.ts";
import { HEAD_OPTIONS } from "../../../src/cli/commands/head-options.ts";
import { readHead } from "../../../src/cli/commands/head-wanted.ts";

function read(flags: Record<string, string[]>, env: Record<string, string> = {}) {
  const options = createOptions(HEAD_OPTIONS, { flags: new Map(Object.entries(flags)), env });
  return readHead({ options });
}

test("who may use models is one word", () => {
  expect(read({}).access).toBe("auto");
  for (const mode of ["auto", "private", "keys", "open"] as const) {
    expect(read({ access: [mode] }).access).toBe(mode);
    expect(read({}, { LLMNODE_ACCESS: mode }).access).toBe(mode);
  }
  expect(() => read({ access: ["none"] })).toThrow(
    '--access needs one of auto, private, keys, open, not "none"',
  );
});

test("what is shown to everyone is a list of words", () => {
  expect(read({}).public).toEqual({});
  expect(read({ public: ["status"] }).public).toEqual({ status: true });
  expect(read({ public: ["status,metrics"] }).public).toEqual({ status: true, metrics: true });
  expect(read({ public: ["metrics", "status"] }).public).toEqual({ status: true, metrics: true });
  expect(read({}, { LLMNODE_PUBLIC: "status,metrics" }).public).toEqual({
    status: true,
    metrics: true,
  });
  for (const wrong of ["all", "status,all", ""]) {
    expect(() => read({ public: [wrong] })).toThrow(
      `--public needs status, metrics or both, with a comma between them, not "${wrong}"`,
    );
  }
});
