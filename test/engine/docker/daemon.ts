/** The container engine that the tests use where there is one, and the image that they run. */

import { chmod, copyFile, mkdir, readFile } from "node:fs/promises";
import path from "node:path";
import { binaryPath } from "../../helpers/binary.ts";
import { runProcess } from "../../helpers/process.ts";
import { tempDir } from "../../helpers/temp.ts";

/** Runs the tool with these words; throws unless it succeeds. */
export async function docker(...words: string[]): Promise<string> {
  const done = await runProcess(["docker", ...words], { timeoutMs: 60_000 });
  if (done.code !== 0) throw new Error(`docker ${words.join(" ")}: ${done.stderr}`);
  return done.stdout.trim();
}

/** Why no container can run here; null: one can. */
export async function dockerTrouble(): Promise<string | null> {
  if (Bun.which("docker") === null) return "docker is not installed";
  const asked = await runProcess(["docker", "version", "--format", "{{.Server.Version}}"], {
    timeoutMs: 20_000,
  }).catch((error: unknown) => ({ code: 1, stdout: "", stderr: String(error) }));
  return asked.code === 0 ? null : (asked.stderr.split("\n")[0] ?? "no daemon");
}

/** How compose is called here; null: it is not. */
export async function composeWords(): Promise<string[] | null> {
  for (const words of [["docker", "compose"], ["docker-compose"]]) {
    if (Bun.which(words[0] ?? "") === null) continue;
    const asked = await runProcess([...words, "version"], { timeoutMs: 20_000 });
    if (asked.code === 0) return words;
  }
  return null;
}

export interface TestImage extends AsyncDisposable {
  readonly name: string;
}

/** An image of the compiled binary and the libraries that it needs, and of nothing else. */
export async function importImage(): Promise<TestImage> {
  using scratch = tempDir();
  const root = path.join(scratch.path, "root");
  const binary = await binaryPath();
  for (const library of await librariesOf(binary)) await copyInto(root, library, library);
  await copyInto(root, binary, "/bin/llmnode");
  await mkdir(path.join(root, "tmp"), { recursive: true });
  await chmod(path.join(root, "tmp"), 0o1777);
  const archive = path.join(scratch.path, "image.tar");
  await run(["tar", "-C", root, "-cf", archive, "."]);
  const name = `llmnode-test-${crypto.randomUUID().slice(0, 8)}:sim`;
  await docker("import", "-c", 'ENTRYPOINT ["/bin/llmnode"]', archive, name);
  return {
    name,
    async [Symbol.asyncDispose]() {
      await docker("rmi", "-f", name);
    },
  };
}

/** The files that the dynamic linker loads for a program. */
export async function librariesOf(binary: string): Promise<string[]> {
  const listed = await run(["ldd", binary]);
  return [...listed.matchAll(/(?:=> )?(\/\S+) \(0x/g)].map((match) => match[1] ?? "");
}

async function copyInto(root: string, from: string, to: string): Promise<void> {
  const target = path.join(root, to);
  await mkdir(path.dirname(target), { recursive: true });
  await copyFile(from, target);
}

async function run(cmd: string[]): Promise<string> {
  const done = await runProcess(cmd, { timeoutMs: 60_000 });
  if (done.code !== 0) throw new Error(`${cmd.join(" ")}: ${done.stderr}`);
  return done.stdout;
}

/** Whether a container of that id or name is there, running or not. */
export async function exists(id: string): Promise<boolean> {
  const done = await runProcess(["docker", "container", "inspect", id], { timeoutMs: 20_000 });
  return done.code === 0;
}

/** The ids of all containers of an engine. */
export async function containersOfEngine(engineId: string): Promise<string[]> {
  const ids = await docker(
    "ps",
    "-aq",
    "--no-trunc",
    "--filter",
    `label=llmnode.engine=${engineId}`,
  );
  return ids.split("\n").filter((id) => id !== "");
}

export async function readCid(dir: string): Promise<string> {
  return (await readFile(path.join(dir, "engine.cid"), "utf8")).trim();
}
