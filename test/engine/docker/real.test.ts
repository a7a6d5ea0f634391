import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { freePort } from "../../helpers/free-port.ts";
import { startEngine, until, type TestEngine } from "../harness.ts";
import {
  containersOfEngine,
  docker,
  dockerTrouble,
  exists,
  importImage,
  readCid,
  type TestImage,
} from "./daemon.ts";

const trouble = await dockerTrouble();
if (trouble !== null) console.warn(`SKIPPED: tests with a real container engine: ${trouble}`);

describe.skipIf(trouble !== null)("a real container engine", () => {
  let image: TestImage;
  beforeAll(async () => {
    image = await importImage();
  }, 180_000);
  afterAll(async () => {
    // What was kept for its log, because nothing was started again.
    const kept = await docker("ps", "-aq", "--filter", `ancestor=${image.name}`);
    if (kept !== "") await docker("rm", "-f", ...kept.split("\n"));
    await image[Symbol.asyncDispose]();
  });

  const run = (...options: string[]) => ["docker", "run", ...options, image.name];
  const sim = ["sim", "--model", "demo", "--host", "0.0.0.0", "--port", "8000"];
  const modelsOf = async (engine: TestEngine) => {
    const answer = await fetch(`${engine.supervisor.status().url}/v1/models`);
    return answer.status;
  };
  const nothingLeft = async (engine: TestEngine) => {
    expect(await containersOfEngine(engine.engineId)).toEqual([]);
  };

  test("attached: found by its published port, named, stopped and removed", async () => {
    const port = freePort();
    await using engine = await startEngine({
      argv: [...run("--rm", "-it", "-p", `127.0.0.1:${port}:8000`), ...sim],
    });
    const ready = await engine.reaches("ready");
    expect(ready.url).toBe(`http://127.0.0.1:${port}`);
    const cid = await readCid(engine.dir);
    await until(() => engine.supervisor.status().container !== null, "the container's name");
    expect(cid.startsWith(engine.supervisor.status().container ?? "?")).toBe(true);
    expect(await modelsOf(engine)).toBe(200);
    const labels = await docker("inspect", "--format", "{{json .Config.Labels}}", cid);
    expect(JSON.parse(labels)).toMatchObject({ "llmnode.engine": engine.engineId });
    await engine.supervisor.stop();
    expect(engine.supervisor.status()).toMatchObject({ state: "stopped", reason: null });
    await nothingLeft(engine);
    // It was told to end, not killed.
    expect(await readFile(join(engine.dir, "engine.log"), "utf8")).toContain(
      "the simulated engine stops",
    );
  });

  test("detached, on any free port: its log is followed, its end is seen", async () => {
    await using engine = await startEngine({
      argv: [...run("-d", "-p", "127.0.0.1::8000"), ...sim],
    });
    await engine.reaches("ready");
    expect(await modelsOf(engine)).toBe(200);
    await until(() => engine.lines.some((line) => line.includes("startup complete")), "its log");
    const cid = await readCid(engine.dir);
    await docker("kill", cid);
    await until(() => engine.supervisor.status().restarts === 1, "the restart");
    await engine.reaches("ready");
    expect(engine.changes.find(({ state }) => state === "backoff")?.reason).toContain("SIGKILL");
    expect(await exists(cid)).toBe(false);
    await engine.supervisor.stop();
    await nothingLeft(engine);
  });

  test("without a published port it is found at its own address, in the host's network at home", async () => {
    await using inside = await startEngine({ argv: [...run("--rm"), ...sim] });
    expect((await inside.reaches("ready")).url).toMatch(/^http:\/\/\d+\.\d+\.\d+\.\d+:8000$/);
    const port = freePort();
    await using host = await startEngine({
      argv: [...run("--rm", "--network", "host"), "sim", "--model", "demo", "--port", String(port)],
    });
    expect((await host.reaches("ready")).url).toBe(`http://127.0.0.1:${port}`);
  });

  test("a crashed container is kept for its log until the next start", async () => {
    await using engine = await startEngine(
      { argv: [...run("-p", "127.0.0.1::8000"), ...sim] },
      { settings: { backoffFirstMs: 2_000, backoffMaxMs: 2_000 } },
    );
    await engine.reaches("ready");
    const cid = await readCid(engine.dir);
    await docker("kill", cid);
    expect((await engine.reaches("backoff")).reason).toContain("SIGKILL");
    expect(await docker("logs", cid)).toContain("serving demo");
    await until(() => engine.supervisor.status().restarts === 1, "the restart");
    await engine.reaches("ready");
    expect(await exists(cid)).toBe(false);
    expect(await containersOfEngine(engine.engineId)).toHaveLength(1);
  });

  test("memory, a missing program and an unknown image are told apart", async () => {
    const slow = { settings: { backoffFirstMs: 60_000, backoffMaxMs: 60_000 } };
    const tight = ["-m", "32m", "--memory-swap", "32m", "-p", "127.0.0.1::8000"];
    await using small = await startEngine({ argv: [...run(...tight), ...sim] }, slow);
    const { url } = await small.reaches("ready");
    const [method, headers] = ["POST", { "content-type": "application/json" }];
    const body = "a".repeat(90_000_000);
    await fetch(`${url}/v1/completions`, { method, headers, body }).catch(() => null);
    expect(await small.reaches("backoff")).toMatchObject({ failure: "host_oom" });
    await using missing = await startEngine(
      { argv: ["docker", "run", "--rm", "--entrypoint", "/no/such", image.name] },
      slow,
    );
    expect(await missing.reaches("backoff")).toMatchObject({ failure: "missing_program" });
    await using unknown = await startEngine(
      { argv: ["docker", "run", "--rm", "--pull", "never", "llmnode-test-no-such-image:x"] },
      slow,
    );
    expect(unknown.changes[0]).toMatchObject({ state: "starting", phase: "pull" });
    expect(await unknown.reaches("backoff")).toMatchObject({ failure: "docker" });
  });

  test("a killed client is not the engine's end", async () => {
    await using engine = await startEngine({
      argv: [...run("--rm", "-p", "127.0.0.1::8000"), ...sim],
    });
    const { pid } = await engine.reaches("ready");
    const cid = await readCid(engine.dir);
    process.kill(pid ?? 0, "SIGKILL");
    await Bun.sleep(300);
    expect(await modelsOf(engine)).toBe(200);
    expect(engine.supervisor.status()).toMatchObject({ state: "ready", restarts: 0 });
    await engine.supervisor.stop();
    await nothingLeft(engine);
    expect(await exists(cid)).toBe(false);
    expect(await readFile(join(engine.dir, "engine.log"), "utf8")).toContain("engine stops");
  });

  test.each([["attached"], ["detached"]])(
    "the next life of the worker takes it over: %s",
    async (how) => {
      const flags = how === "detached" ? ["-d"] : ["--rm"];
      const target = { argv: [...run(...flags, "-p", "127.0.0.1::8000"), ...sim] };
      await using first = await startEngine(target);
      await first.reaches("ready");
      const cid = await readCid(first.dir);
      await first.supervisor.release();
      const { dir, engineId } = first;
      await using second = await startEngine(target, { dir, engineId });
      expect(await second.reaches("ready")).toMatchObject({ adopted: true, restarts: 0 });
      expect(await containersOfEngine(engineId)).toEqual([cid]);
      expect(await modelsOf(second)).toBe(200);
      await docker("kill", cid);
      await until(() => second.supervisor.status().restarts === 1, "the restart");
      await second.reaches("ready");
      await second.supervisor.stop();
      await nothingLeft(second);
      const log = await readFile(join(dir, "engine.log"), "utf8");
      expect(log.match(/serving demo/g)).toHaveLength(2);
    },
  );

  test("another command removes what the one before it left", async () => {
    await using first = await startEngine({ argv: [...run("--rm"), ...sim] });
    await first.reaches("ready");
    const cid = await readCid(first.dir);
    await first.supervisor.release();
    const { dir, engineId } = first;
    await using second = await startEngine({ argv: ["sleep", "60"] }, { dir, engineId });
    expect(await exists(cid)).toBe(false);
    expect(second.supervisor.status()).toMatchObject({ adopted: false, container: null });
  });

  test("stopping at any moment of the start leaves nothing", async () => {
    for (const delayMs of [0, 60, 120, 250, 400]) {
      await using engine = await startEngine({ argv: [...run(), ...sim] });
      await Bun.sleep(delayMs);
      await engine.supervisor.stop();
      expect(engine.supervisor.status()).toMatchObject({ state: "stopped", reason: null });
      await nothingLeft(engine);
    }
  });

  test("one that ignores the request to stop is ended by docker", async () => {
    await using engine = await startEngine({
      argv: [...run("-p", "127.0.0.1::8000"), ...sim, "--fault", "ignore-term"],
    });
    await engine.reaches("ready");
    await engine.supervisor.stop();
    expect(engine.supervisor.status()).toMatchObject({ state: "stopped", reason: null });
    await nothingLeft(engine);
  });

  test("a name that another container has is refused, with who has it", async () => {
    const name = `llmnode-test-${crypto.randomUUID().slice(0, 8)}`;
    await docker("create", "--name", name, image.name, "sim");
    const argv = ["docker", "run", "--name", name, image.name, "sim"];
    const failure = await startEngine({ argv }).then(
      () => null,
      (error: unknown) => error,
    );
    expect(failure).toMatchObject({ code: "usage" });
    expect(String(failure)).toContain(`the container name ${name} is taken by another container`);
    await docker("rm", name);
  });
});
