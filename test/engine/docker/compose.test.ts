import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { tempDir } from "../../helpers/temp.ts";
import { startEngine, until, type TestEngine } from "../harness.ts";
import { composeWords, docker, dockerTrouble, importImage, type TestImage } from "./daemon.ts";

const compose = await composeWords();
const trouble = (await dockerTrouble()) ?? (compose === null ? "compose is not installed" : null);
if (trouble !== null) console.warn(`SKIPPED: tests with real compose: ${trouble}`);

describe.skipIf(trouble !== null)("a compose project as an engine", () => {
  let image: TestImage;
  beforeAll(async () => {
    image = await importImage();
  }, 180_000);
  afterAll(() => image[Symbol.asyncDispose]());

  /** A front end whose port is published, and a service beside it that serves nothing. */
  const file = () => `
services:
  front:
    image: ${image.name}
    command: sim --model demo --host 0.0.0.0 --port 8000
    ports: ["127.0.0.1::8000"]
    depends_on: [back]
  back:
    image: ${image.name}
    command: sim --model behind --host 0.0.0.0 --port 8000
`;
  const start = (dir: string, more: Parameters<typeof startEngine>[1] = {}) => {
    const argv = [...(compose ?? []), "-f", join(dir, "compose.yaml"), "up"];
    return startEngine({ argv }, more);
  };
  const projectOf = (engine: TestEngine) => engine.supervisor.status().container ?? "?";
  const containers = async (project: string) => {
    const label = `label=com.docker.compose.project=${project}`;
    const ids = await docker("ps", "-aq", "--no-trunc", "--filter", label);
    return ids.split("\n").filter((id) => id !== "");
  };

  test("the service with a published port serves; down leaves nothing", async () => {
    using scratch = tempDir();
    await writeFile(join(scratch.path, "compose.yaml"), file());
    await using engine = await start(scratch.path);
    const ready = await engine.reaches("ready");
    expect(ready.models.map((model) => model.id)).toEqual(["demo"]);
    const project = projectOf(engine);
    expect(project).toStartWith("llmnode-test-");
    expect(await containers(project)).toHaveLength(2);
    await until(() => engine.lines.some((line) => line.includes("startup complete")), "its log");
    await engine.supervisor.stop();
    expect(engine.supervisor.status()).toMatchObject({ state: "stopped", reason: null });
    expect(await containers(project)).toEqual([]);
  });

  test("when its containers have ended it is started again", async () => {
    using scratch = tempDir();
    await writeFile(join(scratch.path, "compose.yaml"), file());
    await using engine = await start(scratch.path);
    await engine.reaches("ready");
    const project = projectOf(engine);
    await docker("kill", ...(await containers(project)));
    await until(() => engine.supervisor.status().restarts === 1, "the restart");
    await engine.reaches("ready");
    await engine.supervisor.stop();
    expect(await containers(project)).toEqual([]);
  });

  test("it is taken over by the next life of the worker, also without its client", async () => {
    using scratch = tempDir();
    await writeFile(join(scratch.path, "compose.yaml"), file());
    await using first = await start(scratch.path);
    const { pid } = await first.reaches("ready");
    const project = projectOf(first);
    const before = await containers(project);
    const { dir, engineId } = first;
    await first.supervisor.release();
    {
      await using second = await start(scratch.path, { dir, engineId });
      expect(await second.reaches("ready")).toMatchObject({ adopted: true });
      await second.supervisor.release();
    }
    process.kill(-(pid ?? 0), "SIGKILL");
    await using third = await start(scratch.path, { dir, engineId });
    expect((await third.reaches("ready")).models.map((model) => model.id)).toEqual(["demo"]);
    expect((await containers(project)).sort()).toEqual(before.sort());
    await third.supervisor.stop();
    expect(await containers(project)).toEqual([]);
  });
});

test("compose that is not there is said before anything runs", async () => {
  const failure = await startEngine({ argv: ["docker-compose-is-not-here", "up"] }).then(
    () => null,
    (error: unknown) => error,
  );
  expect(failure).toMatchObject({ code: "engine_not_found" });
});
