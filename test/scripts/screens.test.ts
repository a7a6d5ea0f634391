import { expect, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { runProcess } from "../helpers/process.ts";
import { tempDir } from "../helpers/temp.ts";

const SCRIPT = join(import.meta.dir, "../../scripts/screens.ts");

test("pictures are put between the marks, and nothing else is touched", async () => {
  using directory = tempDir();
  const file = join(directory.path, "README.md");
  const around = ["# llmnode\n\n<!-- screens:begin -->", "old\n<!-- screens:end -->\n\nthe rest\n"];
  writeFileSync(file, around.join("\n"));
  const argv = [process.execPath, SCRIPT, "--into", file, "--only", "empty"];
  const { code, stderr } = await runProcess(argv, { timeoutMs: 30_000 });
  expect([code, stderr]).toEqual([0, ""]);
  const text = readFileSync(file, "utf8");
  expect(text).toStartWith("# llmnode\n\n<!-- screens:begin -->\n");
  expect(text).toEndWith("<!-- screens:end -->\n\nthe rest\n");
  expect(text).toContain("```text\nllmnode head-1:8092   LIVE");
  expect(text).toContain("No workers have joined yet.");
  expect(text).not.toContain("old");
}, 60_000);

test("a file without the marks is left alone", async () => {
  using directory = tempDir();
  const file = join(directory.path, "README.md");
  writeFileSync(file, "# llmnode\n");
  const { code, stderr } = await runProcess([process.execPath, SCRIPT, "--into", file]);
  expect(code).toBe(1);
  expect(stderr).toContain("has no <!-- screens:begin -->");
  expect(readFileSync(file, "utf8")).toBe("# llmnode\n");
});
