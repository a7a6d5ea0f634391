/**
 * Builds `dist/llmnode`: one executable with everything in it.
 *
 *   scripts/run.sh build [--outfile FILE] [--target bun-linux-arm64] [--if-stale]
 *
 * `--if-stale` does nothing when the file is newer than everything it is made of.
 */

import { createHash } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { parseArgs } from "node:util";
import type { BunPlugin } from "bun";
import { formatBytes } from "../src/util/units.ts";

const ROOT = resolve(import.meta.dir, "..");
/** Older ones corrupt executables or gRPC; the lockfile and setup.sh pin the same version. */
const MIN_BUN = "1.4.5";
/** What the executable is made of; `scripts` holds this file. */
const INPUTS = ["src", "proto", "scripts/build.ts", "package.json", "bun.lock"];
/** Request headers of 64 KiB: an API key, a trace and a long cookie fit; Bun's default is 16. */
const EXEC_ARGV = ["--max-http-header-size=65536"];
/** A build takes seconds; a lock held longer belongs to a process that is gone. */
const LOCK_LIMIT_MS = 5 * 60_000;

const { values } = parseArgs({
  options: {
    outfile: { type: "string", default: "dist/llmnode" },
    target: { type: "string" },
    "if-stale": { type: "boolean", default: false },
  },
});

async function build(file: string, target: string | undefined): Promise<void> {
  const started = new Date();
  const version = packageVersion();
  // Built beside its place and then moved: a running llmnode keeps its file, and nobody ever
  // sees half of one.
  const workplace = mkdtempSync(join(dirname(file), ".build-"));
  try {
    const built = join(workplace, basename(file));
    const result = await Bun.build({
      entrypoints: ["src/main.ts"],
      compile: {
        outfile: built,
        ...(target === undefined ? {} : { target: target as Bun.Build.CompileTarget }),
        execArgv: EXEC_ARGV,
        // Otherwise a bunfig.toml or .env in the current directory runs code or changes settings.
        autoloadDotenv: false,
        autoloadBunfig: false,
        autoloadTsconfig: false,
        autoloadPackageJson: false,
      },
      format: "esm",
      minify: true,
      bytecode: true,
      splitting: true,
      sourcemap: "none",
      define: {
        "process.env.NODE_ENV": '"production"',
        LLMNODE_VERSION: JSON.stringify(version),
      },
      plugins: [devtoolsStub],
      throw: false,
    });
    if (!result.success) throw new Error(`cannot build:\n${result.logs.map(String).join("\n")}`);
    const name = existsSync(built) ? built : `${built}.exe`;
    const place = name === built ? file : `${file}.exe`;
    // A file that changed while the build ran must make the result stale.
    utimesSync(name, started, started);
    renameSync(name, place);
    const sha256 = createHash("sha256").update(readFileSync(place)).digest("hex");
    const size = statSync(place).size;
    process.stdout.write(
      `${place.replace(`${ROOT}/`, "")}  llmnode ${version}  ${formatBytes(size)} (${size} bytes)\nsha256 ${sha256}\n`,
    );
  } finally {
    rmSync(workplace, { recursive: true, force: true });
  }
}

/** Ink imports it for a debugger that is no part of the program and is not installed. */
const devtoolsStub: BunPlugin = {
  name: "react-devtools-stub",
  setup(plugin) {
    plugin.onResolve({ filter: /^react-devtools-core$/ }, () => ({
      path: "react-devtools-core",
      namespace: "stub",
    }));
    plugin.onLoad({ filter: /.*/, namespace: "stub" }, () => ({
      contents: "export default { initialize() {}, connectToDevTools() {} };",
      loader: "js",
    }));
  },
};

function isStale(file: string): boolean {
  const made = statSync(file, { throwIfNoEntry: false })?.mtimeMs;
  return made === undefined || INPUTS.some((input) => newest(join(ROOT, input)) > made);
}

/** The latest change below a path; the directories count, so that a deleted file is noticed. */
function newest(path: string): number {
  const stat = statSync(path, { throwIfNoEntry: false });
  if (stat === undefined) return 0;
  if (!stat.isDirectory()) return stat.mtimeMs;
  return Math.max(stat.mtimeMs, ...readdirSync(path).map((name) => newest(join(path, name))));
}

/** Waits for other builds of the same file; returns what gives the lock back. */
async function takeLock(path: string): Promise<() => void> {
  const deadline = Date.now() + LOCK_LIMIT_MS;
  for (;;) {
    try {
      mkdirSync(path);
      writeFileSync(join(path, "pid"), String(process.pid));
      return () => rmSync(path, { recursive: true, force: true });
    } catch (error) {
      if (!(error instanceof Error && "code" in error && error.code === "EEXIST")) throw error;
    }
    if (isAbandoned(path)) rmSync(path, { recursive: true, force: true });
    else if (Date.now() > deadline) throw new Error(`another build holds ${path}`);
    else await Bun.sleep(100);
  }
}

/** Whether the process that took the lock is gone. */
function isAbandoned(path: string): boolean {
  const stat = statSync(path, { throwIfNoEntry: false });
  if (stat === undefined) return false;
  const pid = existsSync(join(path, "pid")) ? Number(readFileSync(join(path, "pid"), "utf8")) : 0;
  // Between mkdir and the pid being written there is a moment without one.
  if (pid === 0) return Date.now() - stat.mtimeMs > 5000;
  try {
    process.kill(pid, 0);
    return false;
  } catch (error) {
    return error instanceof Error && "code" in error && error.code === "ESRCH";
  }
}

function packageVersion(): string {
  const parsed: unknown = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8"));
  if (typeof parsed === "object" && parsed !== null && "version" in parsed) {
    if (typeof parsed.version === "string") return parsed.version;
  }
  throw new Error("package.json has no version");
}

async function main(): Promise<void> {
  if (Bun.semver.order(Bun.version, MIN_BUN) < 0) {
    throw new Error(`llmnode needs bun ${MIN_BUN} or newer to build, this is ${Bun.version}`);
  }
  process.chdir(ROOT);
  const outfile = resolve(values.outfile);
  mkdirSync(dirname(outfile), { recursive: true });
  if (!values["if-stale"]) return build(outfile, values.target);
  if (!isStale(outfile)) return;
  const unlock = await takeLock(`${outfile}.lock`);
  try {
    if (isStale(outfile)) await build(outfile, values.target);
  } finally {
    unlock();
  }
}

try {
  await main();
} catch (error) {
  process.stderr.write(`error: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}
