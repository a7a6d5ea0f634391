import { afterEach, beforeEach, expect, setDefaultTimeout, test } from "bun:test";
import {
  chmodSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import packageJson from "../../package.json";
import { runProcess } from "../helpers/process.ts";

setDefaultTimeout(30_000);

const ROOT = resolve(import.meta.dir, "../..");
const SETUP = await Bun.file(join(ROOT, "scripts/setup.sh")).text();
const VERSION = /^BUN_VERSION=(.+)$/m.exec(SETUP)?.[1] ?? "";
/** What the scripts may use of a bare machine. */
const TOOLS = ["sh", "dirname", "mkdir", "sed", "sleep", "tail", "cat", "ln"];

let place = "";
let root = "";
let bin = "";

beforeEach(() => {
  place = mkdtempSync(join(tmpdir(), "llmnode-setup-"));
  root = join(place, "project with a space");
  bin = join(place, "bin");
  mkdirSync(join(root, "scripts"), { recursive: true });
  mkdirSync(bin);
  cpSync(join(ROOT, "scripts/setup.sh"), join(root, "scripts/setup.sh"));
  writeFileSync(join(root, "package.json"), '{ "name": "empty", "private": true }\n');
  for (const tool of TOOLS) symlinkSync(Bun.which(tool) ?? "", join(bin, tool));
});
afterEach(() => rmSync(place, { recursive: true, force: true }));

/** Puts a program into the PATH of the machine that is played here. */
function install(name: string, script: string): void {
  const file = join(bin, name);
  writeFileSync(file, `#!${join(bin, "sh")}\necho "${name} $*" >>"${place}/calls"\n${script}\n`);
  chmodSync(file, 0o755);
}

/** npm as far as set-up uses it: fetching bun "downloads" the one that runs this test. */
function installNpm(before = ""): void {
  const linked = `${join(root, ".bun")}/node_modules/.bin`;
  install("npm", `${before}\nmkdir -p '${linked}'\nln -sf '${process.execPath}' '${linked}/bun'`);
}

function setUp() {
  const script = 'ROOT=$1; . "$ROOT/scripts/setup.sh"; echo "bun: $(command -v bun)"';
  return runProcess([join(bin, "sh"), "-eu", "-c", script, "sh", root], {
    cleanEnv: true,
    env: { PATH: bin, HOME: join(place, "home"), SETUP_RETRY_SECONDS: "0" },
    cwd: place,
  });
}

async function calls(): Promise<string[]> {
  const file = Bun.file(join(place, "calls"));
  return (await file.exists()) ? (await file.text()).trimEnd().split("\n") : [];
}

test("every place names the same version of bun", async () => {
  expect(VERSION).toBe(packageJson.devDependencies["bun-types"]);
  const build = await Bun.file(join(ROOT, "scripts/build.ts")).text();
  expect(build).toContain(`const MIN_BUN = "${VERSION}";`);
});

test("the pinned bun is used, and nothing is said when all is there", async () => {
  symlinkSync(process.execPath, join(bin, "bun"));
  installNpm();
  mkdirSync(join(root, "node_modules"));
  expect(await setUp()).toEqual({ code: 0, stdout: `bun: ${bin}/bun\n`, stderr: "" });
  expect(await calls()).toEqual([]);
});

test("only npm: bun is fetched once, into .bun/", async () => {
  installNpm();
  const first = await setUp();
  expect(first.stderr).toBe(
    `fetching bun ${VERSION} into .bun/ (once)\ninstalling packages (once)\n`,
  );
  expect([first.code, first.stdout]).toEqual([0, `bun: ${root}/.bun/node_modules/.bin/bun\n`]);
  expect(await calls()).toEqual([
    `npm install --prefix ${root}/.bun --save-exact --no-audit --no-fund --fetch-retries=1 --fetch-retry-mintimeout=2000 --loglevel=error bun@${VERSION}`,
  ]);
  mkdirSync(join(root, "node_modules"), { recursive: true });
  expect((await setUp()).stderr).toBe("");
  expect((await calls()).length).toBe(1);
});

test("only a bun of another version: it fetches the pinned one, install scripts or not", async () => {
  const fetched = join(root, ".bun/node_modules/@oven/bun-linux-x64/bin");
  install(
    "bun",
    `case "$1" in
       --version) echo 1.3.0 ;;
       add) mkdir -p '${fetched}' && ln -sf '${process.execPath}' '${fetched}/bun' ;;
       *) exit 9 ;;
     esac`,
  );
  const { code, stdout } = await setUp();
  expect([code, stdout]).toEqual([0, `bun: ${fetched}/bun\n`]);
  expect(await calls()).toContain(`bun add --cwd ${root}/.bun --exact --trust bun@${VERSION}`);
});

test("neither: says what to install", async () => {
  const { code, stdout, stderr } = await setUp();
  expect([code, stdout]).toEqual([1, ""]);
  expect(stderr).toStartWith("error: llmnode is built with bun");
  expect(stderr).toContain("https://nodejs.org/");
  expect(stderr).toContain(`bun-v${VERSION}`);
});

test("a failed download is tried once more", async () => {
  installNpm(`[ -e '${place}/failed' ] || { echo >'${place}/failed'; exit 1; }`);
  const { code, stderr } = await setUp();
  expect(code).toBe(0);
  expect(stderr).toContain("that failed, trying once more");
  expect((await calls()).length).toBe(2);
});

test("a download that fails twice ends with what npm said", async () => {
  install("npm", "echo 'npm error network unreachable' >&2; exit 1");
  const { code, stderr } = await setUp();
  expect(code).toBe(1);
  expect(stderr).toContain("  | npm error network unreachable\n");
  expect(stderr).toContain(`error: cannot fetch bun ${VERSION}`);
  expect((await calls()).length).toBe(2);
});

test("a fetched bun that does not run is told", async () => {
  install("npm", "exit 0");
  const { code, stderr } = await setUp();
  expect(code).toBe(1);
  expect(stderr).toContain("does not run on this machine");
});

test("a lockfile that does not fit is told, with what bun said", async () => {
  symlinkSync(process.execPath, join(bin, "bun"));
  const local = '{ "name": "empty", "dependencies": { "local": "file:./local" } }';
  writeFileSync(join(root, "package.json"), local);
  mkdirSync(join(root, "local"));
  writeFileSync(join(root, "local/package.json"), '{ "name": "local", "version": "1.0.0" }');
  const empty =
    '{ "lockfileVersion": 1, "workspaces": { "": { "name": "empty" } }, "packages": {} }';
  writeFileSync(join(root, "bun.lock"), empty);
  const { code, stderr } = await setUp();
  expect(code).toBe(1);
  expect(stderr).toContain("error: cannot install the packages of bun.lock");
  expect(stderr).toMatch(/ {2}\| .*(frozen|lockfile)/);
});
