import { describe, expect, test } from "bun:test";
import { createTool, toolTrouble, wordsOf } from "../../../src/engine/docker/tool.ts";

const answer = (stderr: string, code: number | null = 1) => ({ code, stdout: "", stderr });

describe("what keeps a tool from doing anything", () => {
  test.each([
    [
      "docker",
      "Cannot connect to the Docker daemon at unix:///x. Is the docker daemon running?",
      "does not run",
    ],
    [
      "docker",
      "failed to connect to the docker API at unix:///x; check if the path is correct",
      "does not run",
    ],
    ["docker", "error during connect: Get http://x: dial tcp: i/o timeout", "does not run"],
    [
      "podman",
      "Cannot connect to Podman. Please verify your connection to the Linux system",
      "does not run",
    ],
    ["nerdctl", 'time=x level=fatal msg="rootless containerd not running?"', "does not run"],
    [
      "nerdctl",
      'cannot access containerd socket "/run/containerd/containerd.sock"',
      "does not run",
    ],
    [
      "docker",
      "permission denied while trying to connect to the Docker daemon socket",
      "may not use",
    ],
    ["docker", "sudo: a password is required", "asks for a password"],
    ["docker", "sudo: a terminal is required to read the password", "asks for a password"],
  ])("%s: %s", (tool, stderr, words) => {
    const trouble = toolTrouble(answer(stderr), tool);
    expect(trouble?.code).toBe("engine_not_executable");
    expect(trouble?.message).toContain(words);
    expect(trouble?.hints.length).toBeGreaterThan(0);
  });

  test("anything else is no such trouble", () => {
    expect(toolTrouble(answer("Error: No such container: x"), "docker")).toBeNull();
    expect(toolTrouble(answer("Is the docker daemon running?", 0), "docker")).toBeNull();
    expect(toolTrouble(answer("", null), "docker")?.message).toBe("docker does not answer");
  });
});

test("the telling line of a failed call, safe to print", () => {
  const stderr = "WARNING: x\n\u001b[31mError: no such image\u001b[0m\nRun 'docker --help'";
  expect(wordsOf(answer(stderr), "docker")).toBe("Error: no such image");
  expect(wordsOf(answer("", 7), "docker")).toBe("docker failed with code 7");
  expect(wordsOf(answer("", null), "docker")).toBe("docker does not answer");
});

test("a program that is not there is an answer too: it may be upgraded at this moment", async () => {
  const command = { argv: [], env: { PATH: "/nonexistent" }, cwd: "/" };
  const tool = createTool(["docker"], command, { callTimeoutMs: 200 });
  const missing = await tool(["ps"]);
  expect(missing.code).toBe(127);
  expect(toolTrouble(missing, "docker")?.message).toContain("not on the PATH");
});

test("a call is bounded in time, and ends when nobody waits for it any more", async () => {
  const command = { argv: [], env: { PATH: process.env["PATH"] }, cwd: "/" };
  const tool = createTool(["sh", "-c"], command, { callTimeoutMs: 200 });
  expect(await tool(["echo out; echo err >&2; exit 3"])).toEqual({
    code: 3,
    stdout: "out\n",
    stderr: "err\n",
  });
  expect((await tool(["exec sleep 60"])).code).toBeNull();
  const gone = { signal: AbortSignal.abort() };
  expect((await tool(["exec sleep 60"], gone)).code).toBeNull();
  const signal = AbortSignal.timeout(100);
  expect((await tool(["exec sleep 60"], { timeoutMs: 0, signal })).code).toBeNull();
});
