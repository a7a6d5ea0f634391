import { expect, test } from "bun:test";
import { chmodSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { askTool } from "../../src/telemetry/tools.ts";
import { tempDir } from "../helpers/temp.ts";

/** A program of this name, in a folder that is to be the PATH. */
function tool(dir: string, name: string, script: string): void {
  const file = join(dir, name);
  writeFileSync(file, `#!/bin/sh\n${script}\n`);
  chmodSync(file, 0o755);
}

test("the lines of an answer, without what a terminal would obey", async () => {
  using dir = tempDir();
  tool(dir.path, "talks", "printf 'one %s\\n\\n\\033[31mtwo\\033[0m\\n' \"$1\"");
  expect(await askTool(["talks", "x"], { timeoutMs: 5000, path: dir.path })).toEqual({
    outcome: "answered",
    lines: ["one x", "two"],
  });
});

test("no such program", async () => {
  using dir = tempDir();
  expect(await askTool(["none"], { timeoutMs: 5000, path: dir.path })).toEqual({
    outcome: "absent",
  });
});

test("a failure has the program's own words, else its exit code", async () => {
  using dir = tempDir();
  tool(dir.path, "fails", "echo out; echo 'no daemon' >&2; exit 3");
  tool(dir.path, "silent", "exit 4");
  const options = { timeoutMs: 5000, path: dir.path };
  expect(await askTool(["fails"], options)).toEqual({ outcome: "failed", reason: "no daemon" });
  expect(await askTool(["silent"], options)).toEqual({ outcome: "failed", reason: "exit code 4" });
});

test("a program that hangs is not waited for, even when a child keeps its output open", async () => {
  using dir = tempDir();
  tool(dir.path, "hangs", "exec /bin/sleep 60");
  tool(dir.path, "forks", "/bin/sleep 0.5 & wait");
  for (const name of ["hangs", "forks"]) {
    expect(await askTool([name], { timeoutMs: 100, path: dir.path })).toEqual({
      outcome: "failed",
      reason: "no answer in 0.1s",
    });
  }
});

test("a file that is no program", async () => {
  using dir = tempDir();
  const file = join(dir.path, "broken");
  writeFileSync(file, "#!/no/such/interpreter\n");
  chmodSync(file, 0o755);
  expect(await askTool(["broken"], { timeoutMs: 5000, path: dir.path })).toMatchObject({
    outcome: "failed",
  });
});
