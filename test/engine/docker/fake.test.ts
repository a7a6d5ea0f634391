import { expect, test } from "bun:test";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { freePort } from "../../helpers/free-port.ts";
import { tempDir, type TempDir } from "../../helpers/temp.ts";
import { type EngineOptions, fixture, startEngine, until } from "../harness.ts";

type Mode = "" | "down" | "denied" | "hang" | "pull" | "late" | "paused";

interface Fake extends AsyncDisposable {
  env: Record<string, string>;
  set(mode: Mode): void;
  /** Signals that clients got. */
  signals(): string[];
  containers(): string[];
}

/** A `docker` on the PATH, with a daemon of its own. */
function fakeDocker(mode: Mode = ""): Fake {
  const scratch: TempDir = tempDir();
  const [bin, state] = [join(scratch.path, "bin"), join(scratch.path, "state")];
  for (const dir of [bin, state]) mkdirSync(dir);
  const program = join(import.meta.dir, "fixtures/fake-docker.ts");
  writeFileSync(join(bin, "docker"), `#!/bin/sh\nexec "${process.execPath}" "${program}" "$@"\n`);
  chmodSync(join(bin, "docker"), 0o755);
  const set = (next: Mode) => writeFileSync(join(state, "mode"), next);
  set(mode);
  const daemon = Bun.spawn([process.execPath, program, "daemon"], {
    env: { ...process.env, FAKE_DOCKER: state },
    stdio: ["ignore", "ignore", "inherit"],
  });
  const PATH = `${bin}:${process.env["PATH"] ?? ""}`;
  return {
    env: { ...(process.env as Record<string, string>), PATH, FAKE_DOCKER: state },
    set,
    signals() {
      const path = join(state, "signals");
      return existsSync(path) ? readFileSync(path, "utf8").trim().split("\n") : [];
    },
    containers: () => readdirSync(state).filter((name) => name.endsWith(".json")),
    async [Symbol.asyncDispose]() {
      daemon.kill();
      await daemon.exited;
      scratch[Symbol.dispose]();
    },
  };
}

const CONTAINER = { pollMs: 20, callTimeoutMs: 3_000, infoMaxAgeMs: 300, toolStopMs: 1_000 };

function start(fake: Fake, flags: string[] = ["--rm"], more: EngineOptions = {}) {
  // It loads for a while, so that what is printed before is read before it is ready.
  const server = fixture("server", "--announce", "--port", String(freePort()), "--load", "200");
  const settings = { container: CONTAINER, ...more.settings };
  return startEngine(
    { argv: ["docker", "run", ...flags, "img", ...server] },
    { env: fake.env, ...more, settings },
  );
}

const failureOf = (starting: Promise<unknown>) =>
  starting.then(
    () => null,
    (error: unknown) => error,
  );

test.each([[["--rm"]], [["-d"]]])(
  "%p: found, followed, stopped by the daemon, removed",
  async (flags) => {
    await using fake = fakeDocker();
    await using engine = await start(fake, flags);
    await engine.reaches("ready");
    expect(engine.supervisor.status().container).toMatch(/^[0-9a-f]{12}$/);
    await engine.supervisor.stop();
    expect(engine.supervisor.status()).toMatchObject({ state: "stopped", reason: null });
    expect(fake.containers()).toEqual([]);
    expect(fake.signals()).toEqual([]);
  },
);

test.each([
  ["down", "the docker daemon does not run", "sudo systemctl start docker"],
  ["denied", "this user may not use docker", "sudo usermod -aG docker $USER, then log in again"],
] as const)("a daemon that is %s: one line and the next step", async (mode, words, hint) => {
  await using fake = fakeDocker(mode);
  const failure = await failureOf(start(fake));
  expect(failure).toMatchObject({ code: "engine_not_executable" });
  expect(String(failure)).toContain(words);
  expect(failure).toHaveProperty("hints", expect.arrayContaining([hint]));
});

test("a daemon that hangs is said too, in time", async () => {
  await using fake = fakeDocker("hang");
  const settings = { container: { ...CONTAINER, callTimeoutMs: 300 } };
  const failure = await failureOf(start(fake, [], { settings }));
  expect(String(failure)).toContain("docker does not answer");
});

test("a tool that is not there", async () => {
  await using fake = fakeDocker();
  const failure = await failureOf(start(fake, [], { env: { ...fake.env, PATH: "/nonexistent" } }));
  expect(failure).toMatchObject({ code: "engine_not_found" });
});

test("the pull of an image is a phase of its own, with a percentage", async () => {
  await using fake = fakeDocker("pull");
  await using engine = await start(fake);
  await engine.reaches("ready");
  const phases = new Set(engine.changes.map(({ phase }) => phase));
  expect([...phases].filter((phase) => phase !== null)).toEqual([
    ...["pull", "pull 50%", "pull 100%", "spawn"],
  ]);
});

test("stopped while the image is pulled: one signal to the client, nothing left", async () => {
  await using fake = fakeDocker("pull");
  await using engine = await start(fake);
  await until(() => engine.lines.some((line) => line.includes("Pulling fs layer")), "the pull");
  await engine.supervisor.stop();
  expect(engine.supervisor.status()).toMatchObject({ state: "stopped", reason: null });
  expect(fake.signals()).toEqual(["SIGTERM"]);
  expect(fake.containers()).toEqual([]);
});

test("stopped between creation and start: it is waited for, not lost", async () => {
  await using fake = fakeDocker("late");
  await using engine = await start(fake);
  await until(() => fake.containers().length === 1, "the creation");
  await engine.supervisor.stop();
  expect(engine.supervisor.status()).toMatchObject({ state: "stopped", reason: null });
  expect(fake.signals().length).toBeLessThan(2);
  expect(fake.containers()).toEqual([]);
});

test("the daemon goes and comes back: the engine was never gone", async () => {
  await using fake = fakeDocker();
  await using engine = await start(fake, ["-d"]);
  const { url } = await engine.reaches("ready");
  await until(() => engine.lines.some((line) => line.includes("Uvicorn")), "its log");
  fake.set("down");
  await Bun.sleep(500);
  expect((await fetch(`${url}/health`)).status).toBe(200);
  expect(engine.supervisor.status()).toMatchObject({ state: "ready", restarts: 0 });
  fake.set("");
  await fetch(`${url}/control/exit/3`).catch(() => null);
  await until(() => engine.supervisor.status().restarts === 1, "the restart");
  expect(engine.changes.find(({ state }) => state === "backoff")?.reason).toContain("told to exit");
});

test("a daemon that is gone at the stop is said; the next start clears up", async () => {
  await using fake = fakeDocker();
  await using engine = await start(fake, ["-d"]);
  await engine.reaches("ready");
  fake.set("down");
  await engine.supervisor.stop();
  expect(fake.containers()).toHaveLength(1);
  fake.set("");
  const { dir, engineId } = engine;
  await using again = await start(fake, ["-d"], { dir, engineId });
  await again.reaches("ready");
  expect(fake.containers()).toHaveLength(1);
  await again.supervisor.stop();
  expect(fake.containers()).toEqual([]);
});

test("a crash is one whatever its code, and its container stays until the next start", async () => {
  await using fake = fakeDocker();
  const settings = { backoffFirstMs: 400 };
  await using engine = await start(fake, ["-p", "1:1"], { settings });
  const { url } = await engine.reaches("ready");
  const kept = fake.containers();
  await fetch(`${url}/control/exit/0`).catch(() => null);
  await engine.reaches("backoff");
  expect(fake.containers()).toEqual(kept);
  await until(() => engine.supervisor.status().restarts === 1, "the restart");
  await until(() => fake.containers().length === 1, "one container");
  expect(fake.containers()).not.toEqual(kept);
});

test("a container that was paused shows, and makes room when it is given up", async () => {
  await using fake = fakeDocker();
  await using engine = await start(fake);
  await engine.reaches("ready");
  const kept = fake.containers();
  expect(await engine.supervisor.vitalSigns()).toMatchObject({ stopped: null, cpuMs: null });
  fake.set("paused");
  await until(
    async () => (await engine.supervisor.vitalSigns())?.stopped === "its container is paused",
    "the pause",
  );
  engine.supervisor.markStalled("its container is paused");
  await until(() => engine.supervisor.status().restarts === 1, "the restart");
  fake.set("");
  await engine.reaches("ready");
  expect(fake.containers()).toHaveLength(1);
  expect(fake.containers()).not.toEqual(kept);
});
