import { expect, test } from "bun:test";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { freePort } from "../../helpers/free-port.ts";
import type { EngineStatus } from "../../../src/engine/status.ts";
import { LlmnodeError } from "../../../src/protocol/errors.ts";
import { fixture, scratchFolder, startEngine, tell, until } from "../harness.ts";

const stateOf = (status: EngineStatus) => status.state;
const distinct = <T>(list: T[]) => list.filter((item, i) => i === 0 || item !== list[i - 1]);

async function failureOf(promise: Promise<unknown>): Promise<LlmnodeError> {
  const error = await promise.then(
    () => null,
    (reason: unknown) => reason,
  );
  if (!(error instanceof LlmnodeError)) throw new Error(`no LlmnodeError: ${String(error)}`);
  return error;
}

test("finds the port in the log, becomes ready, and stops", async () => {
  await using engine = await startEngine({
    argv: fixture("server", "--port", "0", "--announce", "--models", "a,b"),
  });
  const ready = await engine.reaches("ready");
  expect(ready.models.map((model) => model.id)).toEqual(["a", "b"]);
  expect(ready.models[0]).toMatchObject({
    id: "a",
    parent: null,
    maxModelLen: 4096,
    loaded: null,
  });
  expect(ready.url).toBe(`http://127.0.0.1:${ready.port}`);
  expect(ready.kind).toBe("vllm");
  expect(ready.reason).toBeNull();
  expect(engine.supervisor.pid).toBe(ready.pid);
  await engine.supervisor.stop();
  expect(distinct(engine.changes.map(stateOf))).toEqual([
    "starting",
    "ready",
    "stopping",
    "stopped",
  ]);
  expect(engine.supervisor.status()).toMatchObject({ pid: null, url: null, models: [] });
  expect(await readFile(join(engine.dir, "engine.log"), "utf8")).toContain("Uvicorn running");
});

test("uses the port of the command, and the given one before it", async () => {
  const port = freePort();
  const argv = fixture("server", "--port", String(port));
  {
    await using engine = await startEngine({ argv });
    expect(await engine.reaches("ready")).toMatchObject({ port, restarts: 0 });
  }
  await using engine = await startEngine({ argv: [...argv, "--note", "--port=1"] }, { port });
  expect(engine.supervisor.status().port).toBe(port);
});

test("finds the port of a program that says nothing by its sockets", async () => {
  await using engine = await startEngine({ argv: fixture("server") });
  expect((await engine.reaches("ready")).models).toHaveLength(1);
});

test("a loading engine is starting until HTTP says otherwise", async () => {
  await using engine = await startEngine({
    argv: fixture("server", "--announce", "--load", "300"),
  });
  await engine.reaches("ready");
  const starting = engine.changes.filter((status) => status.state === "starting");
  expect(starting.every((status) => status.reason === null && status.models.length === 0)).toBe(
    true,
  );
  expect(starting[0]?.phase).toBe("spawn");
});

test("phases come from the log and only move forward", async () => {
  const script = [
    "echo 'Downloading shards'",
    "echo 'Loading safetensors checkpoint shards:  40% Completed | 2/5'",
    "printf 'Loading safetensors checkpoint shards:  20%%\\rLoading safetensors checkpoint shards: 80%%\\n'",
    "echo 'Downloading shards'",
    "echo 'Capturing CUDA graphs: 10%'",
    "sleep 60",
  ].join("; ");
  await using engine = await startEngine({ argv: ["sh", "-c", script] });
  await until(() => engine.supervisor.status().phase === "warmup 10%", "warm-up");
  const phases = distinct(engine.changes.map((status) => status.phase));
  expect(phases).toEqual(["spawn", "download", "load 40%", "load 80%", "warmup 10%"]);
});

test("an exit with code 0 while ready is a crash with a reason and a restart", async () => {
  await using engine = await startEngine({ argv: fixture("server", "--announce") });
  const first = await engine.reaches("ready");
  await tell(engine, "exit/0");
  await until(() => engine.supervisor.status().restarts === 1, "a restart");
  const second = await engine.reaches("ready");
  const crash = engine.changes.find((status) => status.state === "backoff");
  expect(crash).toMatchObject({
    reason: "exited with code 0: ValueError: told to exit",
    pid: null,
    url: null,
    models: [],
  });
  expect(second.run).not.toBe(first.run);
  expect(second.pid).not.toBe(first.pid);
});

test("a killed engine names the signal", async () => {
  await using engine = await startEngine({ argv: fixture("server", "--announce") });
  const { pid } = await engine.reaches("ready");
  process.kill(pid ?? 0, "SIGKILL");
  await until(() => engine.supervisor.status().restarts === 1, "a restart");
  const crash = engine.changes.find((status) => status.state === "backoff");
  expect(crash?.reason).toStartWith("killed by SIGKILL");
});

test("a command that exits at once backs off, with its own words as the reason", async () => {
  const script = "echo 'loading'; echo 'vllm: error: unrecognized arguments: --x' >&2; exit 2";
  await using engine = await startEngine({ argv: ["sh", "-c", script] });
  await until(() => engine.supervisor.status().restarts >= 2, "two restarts");
  const crashes = engine.changes.filter((status) => status.state === "backoff");
  const reason = "its command line was rejected: vllm: error: unrecognized arguments: --x";
  expect(crashes[0]?.reason).toBe(reason);
  expect(crashes[1]?.stateSince).toBeGreaterThan(crashes[0]?.stateSince ?? 0);
});

test("three failed probes in a row make it unhealthy, one good one brings it back", async () => {
  await using engine = await startEngine({ argv: fixture("server", "--announce") });
  await engine.reaches("ready");
  await tell(engine, "health/500");
  const unhealthy = await engine.reaches("unhealthy");
  expect(unhealthy.reason).toContain("GET /health answers 500");
  expect(unhealthy.models).toHaveLength(1);
  await tell(engine, "models/new");
  await tell(engine, "health/200");
  expect((await engine.reaches("ready")).models.map((model) => model.id)).toEqual(["new"]);
  expect(engine.supervisor.status().restarts).toBe(0);
});

test("an engine that goes silent becomes unhealthy", async () => {
  await using engine = await startEngine(
    { argv: fixture("server", "--announce") },
    { settings: { probeTimeoutMs: 100 } },
  );
  await engine.reaches("ready");
  await tell(engine, "silent");
  expect((await engine.reaches("unhealthy")).reason).toContain("not answered within");
});

test("the model list is read again", async () => {
  await using engine = await startEngine({ argv: fixture("server", "--announce") });
  await engine.reaches("ready");
  await tell(engine, "models/x,y");
  const ids = () => engine.supervisor.status().models.map((model) => model.id);
  await until(() => ids().join() === "x,y", "the new list");
});

test("a missing or unusable program ends the first start", async () => {
  const missing = await failureOf(startEngine({ argv: ["no-such-engine-here", "serve"] }));
  expect(missing.code).toBe("engine_not_found");
  expect(missing.message).toContain("no-such-engine-here");
  expect((await failureOf(startEngine({ argv: ["/etc/passwd"] }))).code).toBe(
    "engine_not_executable",
  );
  const quoted = await failureOf(startEngine({ argv: ["vllm serve x"] }));
  expect(quoted.hints[0]).toContain("separate words");
  expect((await failureOf(startEngine({ argv: [] }))).code).toBe("usage");
  const lost = await failureOf(startEngine({ argv: ["sh"] }, { cwd: "/no/such/folder" }));
  expect(lost).toMatchObject({ code: "usage" });
});

test("a taken port ends the first start and names who has it", async () => {
  const port = freePort();
  const argv = fixture("server", "--port", String(port));
  await using first = await startEngine({ argv }, { engineId: `first-${port}` });
  const { pid } = await first.reaches("ready");
  const error = await failureOf(startEngine({ argv }));
  expect(error.code).toBe("port_in_use");
  expect(error.message).toContain(`port ${port}`);
  expect(error.message).toContain(`pid ${pid}`);
  expect(error.message).toContain(`worker first-${port}`);
  expect(first.supervisor.status().state).toBe("ready");
});

test("a port that is taken at a restart is a reason to wait", async () => {
  const port = freePort();
  const argv = fixture("server", "--port", String(port));
  await using engine = await startEngine({ argv }, { settings: { backoffFirstMs: 300 } });
  await engine.reaches("ready");
  await tell(engine, "exit/1");
  await engine.reaches("backoff");
  const thief = Bun.serve({ hostname: "127.0.0.1", port, fetch: () => new Response("mine") });
  await until(
    () => engine.supervisor.status().reason?.includes(`port ${port} is already in use`) ?? false,
    "the reason",
  );
  await thief.stop(true);
  expect((await engine.reaches("ready")).restarts).toBe(1);
});

test("a program that is gone at a restart is a reason to wait, not an end", async () => {
  await using folder = await scratchFolder();
  const program = join(folder.path, "engine");
  await writeFile(program, `#!/bin/sh\nrm ${program}\nexit 1\n`, { mode: 0o755 });
  await using engine = await startEngine({ argv: ["./engine"] }, { cwd: folder.path });
  const reason = () => engine.supervisor.status().reason ?? "";
  await until(() => reason().includes("no such file"), "the reason");
  expect(reason()).toContain("./engine");
  await writeFile(program, "#!/bin/sh\necho back; sleep 60\n", { mode: 0o755 });
  await until(() => engine.lines.includes("back"), "the next start");
  expect(engine.supervisor.status()).toMatchObject({ state: "starting", restarts: 1 });
});

test("a script whose interpreter is missing is told from a missing script", async () => {
  await using folder = await scratchFolder();
  const program = join(folder.path, "engine");
  await writeFile(program, "#!/no/such/interpreter\n", { mode: 0o755 });
  const error = await failureOf(startEngine({ argv: [program] }));
  expect(error.code).toBe("engine_not_found");
  expect(error.message).toContain("interpreter");
});

test("a program that never opens its port goes on starting", async () => {
  const port = freePort();
  await using engine = await startEngine({ argv: ["sh", "-c", "echo up; sleep 60"] }, { port });
  await until(() => engine.lines.includes("up"), "its line");
  await Bun.sleep(150);
  expect(engine.supervisor.status()).toMatchObject({
    state: "starting",
    port,
    url: null,
    restarts: 0,
  });
});

test("llmnode itself stands in for a program of that name that is not on the PATH", async () => {
  const [bun = "", script = ""] = fixture("server");
  await using engine = await startEngine(
    { argv: ["llmnode", "sim", "--port", "0", "--announce", "--model", "q"] },
    { selfCommand: [bun, script], env: { PATH: "/nowhere" } },
  );
  expect(engine.supervisor.status()).toMatchObject({ kind: "sim", expectedModels: ["q"] });
  await engine.reaches("ready");
});

test("the engine's environment is ours without what is ours alone", async () => {
  const argv = ["sh", "-c", "env; sleep 60"];
  const env = {
    PATH: process.env["PATH"],
    HF_TOKEN: "secret",
    NO_COLOR: "0",
    LLMNODE_TOKEN: "t",
    LLMNODE_ADMIN_TOKEN: "a",
    LLMNODE_API_KEY: "k",
    LLMNODE_HEAD: "http://h",
    BUN_OPTIONS: "--smol",
    BUN_BE_BUN: "1",
    BUN_CONFIG_MAX_HTTP_REQUESTS: "65535",
    MIMALLOC_PURGE_HOLES_MIN_INTERVAL: "1000",
    PROMETHEUS_MULTIPROC_DIR: "/tmp/x",
  };
  await using engine = await startEngine({ argv }, { env });
  await until(() => engine.lines.some((line) => line.startsWith("SPT_NOENV")), "the list");
  await until(() => engine.lines.some((line) => line.startsWith("LLMNODE")), "the mark");
  const names = engine.lines.map((line) => line.split("=")[0]);
  expect(engine.lines).toContain(`LLMNODE_ENGINE_ID=${engine.engineId}`);
  expect(engine.lines).toContain("NO_COLOR=0");
  expect(engine.lines).toContain("PYTHONUNBUFFERED=1");
  expect(engine.lines).toContain("HF_TOKEN=secret");
  expect(names.filter((name) => /^(?:LLMNODE|BUN|MIMALLOC|PROMETHEUS)_/.test(name ?? ""))).toEqual([
    "LLMNODE_ENGINE_ID",
  ]);
});

test("changes are told in order although a listener causes the next one", async () => {
  const seen: string[] = [];
  let depth = 0;
  await using engine = await startEngine(
    { argv: fixture("server", "--announce") },
    {
      onChange(status) {
        depth += 1;
        expect(depth).toBe(1);
        seen.push(status.state);
        if (status.state === "ready") void engine.supervisor.stop();
        depth -= 1;
      },
    },
  );
  await engine.reaches("stopped");
  expect(distinct(seen)).toEqual(["starting", "ready", "stopping", "stopped"]);
});

test("aborting the signal stops the engine; aborted before, nothing starts", async () => {
  const controller = new AbortController();
  const argv = fixture("server", "--announce");
  await using engine = await startEngine({ argv }, {}, controller.signal);
  await engine.reaches("ready");
  controller.abort();
  await engine.reaches("stopped");
  const refused = await failureOf(startEngine({ argv }, {}, controller.signal));
  expect(refused.code).toBe("shutting_down");
});
