import { expect, test } from "bun:test";
import { readEngineArgv } from "../../../src/engine/argv/argv.ts";
import { launcherFor } from "../../../src/engine/docker/launcher.ts";
import { bareLauncher } from "../../../src/engine/process/launch.ts";
import { silentLog } from "../../../src/util/log.ts";
import { startEngine } from "../harness.ts";

function launcher(...argv: string[]) {
  const env = { PATH: process.env["PATH"] };
  return launcherFor({ argvFacts: readEngineArgv(argv, env), env, engineId: "e" });
}

test("containers and compose projects are taken over in their own ways, all else as a process", () => {
  expect(launcher("vllm", "serve", "m").adopt).toBe(bareLauncher.adopt);
  expect(launcher("kubectl", "run", "x").adopt).toBe(bareLauncher.adopt);
  expect(launcher("docker", "run", "img").adopt).not.toBe(bareLauncher.adopt);
  expect(launcher("docker", "compose", "up").adopt).not.toBe(bareLauncher.adopt);
  expect(launcher("bash", "-c", "docker run img").adopt).toBe(bareLauncher.adopt);
});

test("a container inside a shell's line is warned about", async () => {
  const warnings: string[] = [];
  const log = { ...silentLog, warn: (message: string) => void warnings.push(message) };
  const argv = ["sh", "-c", "sleep 60; docker run img"];
  await using engine = await startEngine({ argv }, { log });
  expect(engine.supervisor.pid).not.toBeNull();
  expect(warnings.join()).toContain("without the shell");
});
