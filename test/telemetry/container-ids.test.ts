import { expect, test } from "bun:test";
import { containerIds } from "../../src/telemetry/container-ids.ts";
import { toolDir, writeTool } from "./fake-tools.ts";

const ID = "ab".repeat(32);

test("by label, whole ids only, from the first tool that knows any", async () => {
  using dir = toolDir();
  const options = { path: dir.path };
  expect(await containerIds(["a=1"], options)).toEqual([]);
  writeTool(dir.path, "docker", "echo 'no daemon' >&2; exit 1");
  writeTool(
    dir.path,
    "podman",
    `[ "$1 $2 $3 $4 $5" = "ps -q --no-trunc --filter label=a=1" ] && echo ${ID} || echo warning`,
  );
  expect(await containerIds(["b=2", "a=1"], options)).toEqual([ID]);
  expect(await containerIds(["b=2"], options)).toEqual([]);
});

test("a tool that hangs is not waited for", async () => {
  using dir = toolDir();
  writeTool(dir.path, "docker", "exec /bin/sleep 603");
  expect(await containerIds(["a=1"], { path: dir.path, timeoutMs: 100 })).toEqual([]);
});
