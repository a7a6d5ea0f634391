import { expect, test } from "bun:test";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";

const root = path.resolve(import.meta.dir, "..");

const RANK: Record<string, number> = {
  cli: 4,
  head: 3,
  worker: 3,
  top: 3,
  sim: 3,
  cluster: 2,
  proxy: 2,
  engine: 2,
  telemetry: 2,
  protocol: 1,
  util: 0,
};

/**
 * The rooms of a folder, lowest first; rooms on one line do not import from each other. A file
 * imports from its own room and from those of lower lines.
 */
const ROOMS: Record<string, string[]> = {
  cli: [
    "cli/base",
    "cli/config cli/daemon",
    "cli/client cli/join cli/sim",
    "cli/doctor cli/drain cli/logs cli/parse",
    "cli/lists cli/status",
    "cli/complete",
    "cli/resources",
    "cli/commands",
    "cli",
    ".",
  ],
  head: [
    "head/page head/http head/quota head/events head/store",
    "head/access head/drains head/metrics head/transport head/watch",
    "head/api head/dispatch head/sessions",
    "head/admin",
    "head",
  ],
  top: ["top/terminal top/text", "top/state", "top/client top/components", "top"],
  sim: ["sim/wire", "sim/core", "sim/api", "sim/like", "sim"],
  cluster: [
    "cluster/aliases cluster/faults cluster/quota",
    "cluster/state",
    "cluster/liveness cluster/routing cluster/rows",
    "cluster/dispatch",
  ],
  proxy: [
    "proxy/json",
    "proxy/request",
    "proxy/record",
    "proxy/answer",
    "proxy/attempt",
    "proxy/resume proxy/service",
    "proxy",
  ],
  engine: [
    "engine engine/log",
    "engine/process engine/presets engine/docker/argv",
    "engine/argv engine/ask engine/diagnose",
    "engine/docker",
    "engine/supervise",
  ],
  util: ["util util/flow", "util/http"],
};

/** Files in a room; these have more, each for a reason, and never more than now. */
const MOST_FILES = 15;
const LARGE_ROOMS: Record<string, number> = {
  // A file for each command.
  "cli/commands": 25,
  // Flat: no part of them has a name of its own.
  protocol: 17,
  worker: 17,
};

/** Lines of a function. Those that are longer would be a debt to be listed here; there is none. */
const MOST_LINES = 80;

/** Each third-party package, and each part of Bun that opens something, has one home. */
const HOME: Record<string, string> = {
  "@grpc/grpc-js": "protocol",
  "@grpc/proto-loader": "protocol",
  ink: "top",
  react: "top",
  cac: "cli",
  "toml-eslint-parser": "cli",
  systeminformation: "telemetry",
  "@opentelemetry/api": "head",
  "@opentelemetry/exporter-trace-otlp-http": "head",
  "@opentelemetry/resources": "head",
  "@opentelemetry/sdk-trace": "head",
  "@peculiar/x509": "head",
  "reflect-metadata": "head",
  "bun:sqlite": "head",
  "bun:ffi": "worker",
};
const BUN_HOMES: [RegExp, string[]][] = [
  [/\bBun\.serve\b/, ["head", "worker", "top", "sim"]],
  [/\bBun\.spawn(Sync)?\b/, ["engine", "telemetry", "sim"]],
];

/** Modules that every folder may use: the platform's own. */
const PLATFORM = /^(node:|bun$)/;

export interface SourceFile {
  /** Below `src`, with slashes. */
  file: string;
  text: string;
}

/** What breaks the house rules in a set of files, one line each. */
export function violations(files: readonly SourceFile[]): string[] {
  return files.flatMap(({ file, text }) => {
    const code = withoutComments(text);
    return [
      ...importsOf(code).flatMap((target) => importFault(file, target) ?? []),
      ...BUN_HOMES.flatMap(([pattern, homes]) =>
        pattern.test(code) && !homes.includes(folderOf(file))
          ? [`${file}: ${pattern.source} belongs in ${homes.join(", ")}`]
          : [],
      ),
      ...textFaults(file, text, code),
    ];
  });
}

function withoutComments(text: string): string {
  return text.replace(/\/\*[\s\S]*?\*\/|^\s*\/\/.*$/gm, "");
}

function importsOf(code: string): string[] {
  const pattern = /(?:\bfrom\s*|\bimport\s*\(?\s*)["']([^"'\s]+)["']/g;
  return [...code.matchAll(pattern)].map((match) => match[1] ?? "");
}

function importFault(file: string, target: string): string | null {
  const from = folderOf(file);
  if (!target.startsWith(".")) {
    const name = target.startsWith("@")
      ? target.split("/").slice(0, 2).join("/")
      : target.split("/")[0];
    const home = HOME[target] ?? HOME[name ?? ""];
    if (home === undefined) return PLATFORM.test(target) ? null : `${file}: ${target} has no home`;
    return home === from ? null : `${file}: ${target} belongs in ${home}`;
  }
  const resolved = path.posix.normalize(path.posix.join(path.posix.dirname(file), target));
  // The contract and the manifest lie beside `src`.
  if (resolved.startsWith("../")) {
    const allowed =
      (from === "protocol" && resolved === "../proto/llmnode.proto") ||
      (from === "cli" && resolved === "../package.json");
    return allowed ? null : `${file}: imports ${target} from outside src`;
  }
  if (!/\.(tsx?|proto|json)$/.test(resolved)) return `${file}: ${target} lacks its extension`;
  const to = folderOf(resolved);
  if (to === from) return roomFault(file, resolved);
  const [high, low] = [RANK[from], RANK[to]];
  if (high !== undefined && low !== undefined && low < high) return null;
  return `${file}: ${from} may not import from ${to}`;
}

function roomFault(file: string, target: string): string | null {
  const [from, to] = [roomOf(file), roomOf(target)];
  if (from === to) return null;
  const lines = ROOMS[folderOf(file)]?.map((line) => line.split(" ")) ?? [];
  const rank = (room: string) => lines.findIndex((line) => line.includes(room));
  if (rank(to) >= 0 && rank(to) < rank(from)) return null;
  return `${file}: ${from} may not import from ${to}`;
}

/** The folder that a file lies in. */
function roomOf(file: string): string {
  return path.posix.dirname(file);
}

/** Sets of files that import each other in a circle, type imports included. */
export function circles(files: readonly SourceFile[]): string[] {
  const targets = new Map(
    files.map(({ file, text }) => [
      file,
      importsOf(withoutComments(text))
        .filter((target) => target.startsWith("."))
        .map((target) => path.posix.join(path.posix.dirname(file), target)),
    ]),
  );
  const found: string[] = [];
  const done = new Set<string>();
  const visit = (file: string, trail: readonly string[]) => {
    const at = trail.indexOf(file);
    if (at >= 0) found.push([...trail.slice(at), file].join(" > "));
    if (at >= 0 || done.has(file)) return;
    for (const target of targets.get(file) ?? []) visit(target, [...trail, file]);
    done.add(file);
  };
  for (const { file } of files) visit(file, []);
  return found;
}

function textFaults(file: string, text: string, code: string): string[] {
  const faults: string[] = [];
  const lines = text.split("\n").length - 1;
  const name = path.posix.basename(file).replace(/\.(d\.)?tsx?$/, "");
  if (lines > 300) faults.push(`${file}: ${lines} lines, at most 300`);
  if (!/^[a-z0-9]+(-[a-z0-9]+)*$/.test(name)) faults.push(`${file}: not kebab-case`);
  if (/^(utils?|helpers?|types|manager|index)$/.test(name)) faults.push(`${file}: says nothing`);
  if (!file.endsWith(".d.ts") && !text.startsWith("/** "))
    faults.push(`${file}: no first sentence`);
  if (/\bexport default\b/.test(code) && !file.endsWith(".d.ts")) {
    faults.push(`${file}: default export`);
  }
  if (/\bas any\b|: any\b|<any>|@ts-(ignore|nocheck|expect-error)/.test(code)) {
    faults.push(`${file}: gives types up`);
  }
  if (/catch\s*(\([^)]*\))?\s*\{\s*\}/.test(code)) faults.push(`${file}: swallows an error`);
  return faults;
}

/** The first segment below `src`; `main.ts` counts as cli. */
function folderOf(file: string): string {
  return file.includes("/") ? (file.split("/")[0] ?? "") : "cli";
}

function sources(): SourceFile[] {
  const below = readdirSync(path.join(root, "src"), { recursive: true, encoding: "utf8" });
  return below
    .filter((file) => /\.tsx?$/.test(file))
    .map((file) => ({
      file: file.replaceAll(path.sep, "/"),
      text: readFileSync(path.join(root, "src", file), "utf8"),
    }));
}

test("the source tree keeps the import rule, the package rule and the file rules", () => {
  const files = sources();
  expect(files.length).toBeGreaterThan(40);
  expect(violations(files)).toEqual([]);
});

test("no files import each other in a circle", () => {
  expect(circles(sources())).toEqual([]);
  const a = { file: "head/a.ts", text: 'import type { B } from "./b/b.ts";' };
  const b = { file: "head/b/b.ts", text: 'import { c } from "../c.ts";' };
  const c = { file: "head/c.ts", text: 'import { a } from "./a.ts";' };
  expect(circles([a, b, c])).toEqual(["head/a.ts > head/b/b.ts > head/c.ts > head/a.ts"]);
});

test("every room has its rank", () => {
  const ranked = Object.values(ROOMS).flatMap((lines) => lines.join(" ").split(" "));
  const flat = ["protocol", "telemetry", "worker"];
  const rooms = new Set(sources().map(({ file }) => roomOf(file)));
  expect([...ranked, ...flat].toSorted()).toEqual([...rooms].toSorted());
});

test("rooms have few files", () => {
  const sizes: Record<string, number> = {};
  for (const { file } of sources()) sizes[roomOf(file)] = (sizes[roomOf(file)] ?? 0) + 1;
  const large = Object.entries(sizes).filter(([, files]) => files > MOST_FILES);
  expect(Object.fromEntries(large)).toEqual(LARGE_ROOMS);
});

test("functions are short", () => {
  const folder = mkdtempSync(path.join(tmpdir(), "llmnode-style-"));
  const long = (lines: number, file: string) => {
    const config = path.join(folder, "oxlint.json");
    const rules = { "max-lines-per-function": ["error", { max: lines }] };
    const categories = { correctness: "off" };
    writeFileSync(config, JSON.stringify({ plugins: ["eslint"], categories, rules }));
    const oxlint = path.join(root, "node_modules/.bin/oxlint");
    const run = Bun.spawnSync([oxlint, "-c", config, "-f", "json", file], { cwd: root });
    const { diagnostics } = JSON.parse(run.stdout.toString());
    return (diagnostics as { filename: string; message: string }[]).map(
      ({ filename, message }) => `${filename}: ${message}`,
    );
  };
  try {
    expect(long(MOST_LINES, "src")).toEqual([]);
    expect(long(3, "src/cli/run.ts").length).toBeGreaterThan(0);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("the rules catch what they are there for", () => {
  const fault = (file: string, text: string) => violations([{ file, text: `/** A. */\n${text}` }]);
  const wrong: [string, string][] = [
    ["util/a.ts", 'import { x } from "../protocol/errors.ts";'],
    ["head/a.ts", 'import type { W } from "../worker/worker.ts";'],
    ["proxy/a.ts", 'import type { S } from "../cluster/state.ts";'],
    ["proxy/a.ts", 'const m = await import("../cluster/state.ts");'],
    ["head/a.ts", 'import { render } from "ink";'],
    ["cli/a.ts", 'import { Server } from "@grpc/grpc-js";'],
    ["cluster/a.ts", "Bun.serve({ fetch });"],
    ["head/a.ts", "Bun.spawn([]);"],
    ["head/a.ts", 'import x from "left-pad";'],
    ["head/a.ts", 'import { x } from "./b";'],
    ["head/utils.ts", "export const a = 1;"],
    ["head/bigFile.ts", "export const a = 1;"],
    ["head/a.ts", "export default 1;"],
    ["head/a.ts", "try { f(); } catch {}"],
    ["head/a.ts", "const a = b as any;"],
    ["head/a.ts", "const a = 1;\n".repeat(301)],
    ["head/a.ts", 'import x from "../../test/a.ts";'],
    ["head/http/a.ts", 'import { x } from "../api/api.ts";'],
    ["head/http/a.ts", 'import type { X } from "../store/store.ts";'],
    ["head/http/a.ts", 'import { x } from "../head.ts";'],
    ["head/attic/a.ts", 'import { x } from "../http/cors.ts";'],
  ];
  for (const [file, text] of wrong)
    expect([file, text, fault(file, text).length]).toEqual([file, text, 1]);
  const right: [string, string][] = [
    ["main.ts", 'import { run } from "./cli/program.ts";'],
    ["cli/a.ts", 'await import("../head/head.ts");'],
    ["head/a.ts", 'import { x } from "../cluster/state.ts";\nimport fs from "node:fs";'],
    ["head/a.ts", "// Bun.spawn is for others\nconst a = 1;"],
  ];
  for (const [file, text] of right) expect(fault(file, text)).toEqual([]);
});

test("no test is switched off or alone", () => {
  const below = readdirSync(path.join(root, "test"), { recursive: true, encoding: "utf8" });
  const marked = below
    .filter((file) => file.endsWith(".test.ts") && !file.includes("style.test"))
    .filter((file) =>
      /\b(test|describe)\.(only|todo)\b/.test(readFileSync(path.join(root, "test", file), "utf8")),
    );
  expect(marked).toEqual([]);
});
