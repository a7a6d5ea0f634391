import { expect, test } from "bun:test";
import { EXIT_CODES, joinExitCode } from "../../../src/cli/base/exit-codes.ts";
import { formatError } from "../../../src/cli/base/messages.ts";
import { LlmnodeError } from "../../../src/protocol/errors.ts";

const PLAIN = { json: false, color: false, debug: false };

test("one error line, then at most three hints", () => {
  const error = new LlmnodeError("port_in_use", "port 8092 is taken", {
    hints: ["a", "b", "c", "d"],
  });
  expect(formatError(error, PLAIN)).toBe("error: port 8092 is taken\n  a\n  b\n  c\n");
});

test("only the word is red, and only where asked", () => {
  const error = new LlmnodeError("usage", "no");
  expect(formatError(error, { ...PLAIN, color: true })).toBe("\u001b[31merror:\u001b[0m no\n");
});

test("the JSON form carries the same", () => {
  const error = new LlmnodeError("head_unreachable", "cannot reach it", { hints: ["try", "this"] });
  expect(JSON.parse(formatError(error, { ...PLAIN, json: true, color: true }))).toEqual({
    error: {
      code: "head_unreachable",
      message: "cannot reach it",
      hint: "try\nthis",
      retryable: true,
    },
  });
  const usage = formatError(new LlmnodeError("usage", "no"), { ...PLAIN, json: true });
  expect(JSON.parse(usage)).toEqual({
    error: { code: "usage", message: "no", hint: null, retryable: false },
  });
});

test("anything unexpected is told as a bug", () => {
  expect(formatError(new TypeError("x is not a function"), PLAIN)).toBe(
    "error: this is a bug in llmnode: TypeError: x is not a function\n" +
      "  the same command with --debug shows where it happened\n",
  );
  expect(formatError("thrown text", PLAIN)).toStartWith("error: this is a bug in llmnode: thrown");
});

test("--debug adds the stack with its causes, even when they form a ring", () => {
  const inner = new Error("the disk is full");
  const error = new LlmnodeError("data_dir_unusable", "cannot write", { cause: inner });
  inner.cause = error;
  const text = formatError(error, { ...PLAIN, debug: true });
  expect(text).toStartWith("error: cannot write\n");
  expect(text).toContain("messages.test.ts");
  expect(text).toContain("caused by Error: the disk is full");
});

test("text from outside cannot write to the terminal", () => {
  const hostile = "a\u001b[2J\nerror: b";
  const error = new LlmnodeError("usage", hostile, { hints: [hostile] });
  expect(formatError(error, PLAIN)).toBe("error: a error: b\n  a error: b\n");
});

test("exit codes are those of the manual", () => {
  const { usage, head_unreachable, forbidden, not_found, refused, internal } = EXIT_CODES;
  expect([usage, head_unreachable, forbidden, not_found, refused, internal]).toEqual([
    2, 3, 4, 5, 6, 70,
  ]);
  for (const code of Object.values(EXIT_CODES)) expect(code).toBeWithin(1, 128);
});

test("join keeps clear of its engine's codes", () => {
  expect(joinExitCode("engine_not_found")).toBe(127);
  expect(joinExitCode("engine_not_executable")).toBe(126);
  expect(joinExitCode("usage")).toBe(2);
  expect(joinExitCode("internal")).toBe(70);
  for (const code of ["name_in_use", "port_in_use", "join_failed", "data_dir_unusable"] as const) {
    expect(joinExitCode(code)).toBe(125);
  }
});
