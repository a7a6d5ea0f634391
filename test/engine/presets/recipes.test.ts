import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { readEngineArgv } from "../../../src/engine/argv/argv.ts";
import { adviseContainer } from "../../../src/engine/docker/argv/advice.ts";
import { readContainerCommand } from "../../../src/engine/docker/argv/command.ts";
import { shellCommands } from "../../../src/engine/shell-words.ts";
import type { EngineKind } from "../../../src/engine/status.ts";

interface Recipe {
  line: string;
  /** What stands after `--`; null for `--attach`. */
  argv: string[] | null;
  /** The title above it, and the comment. */
  engine: string;
  comment: string;
}

const KINDS: Readonly<Record<string, EngineKind>> = {
  vLLM: "vllm",
  SGLang: "sglang",
  TGI: "tgi",
  Ollama: "ollama",
  "llama.cpp": "llama-server",
  "TensorRT-LLM": "trtllm",
};

/** Every `llmnode join` line in the code blocks of a Markdown text. */
function joinLines(markdown: string): Recipe[] {
  const recipes: Recipe[] = [];
  let engine = "";
  let comment = "";
  let isCode = false;
  for (const line of markdown.replaceAll("\\\n", " ").split("\n")) {
    engine = /^## (.*)/.exec(line)?.[1] ?? engine;
    if (line.startsWith("```")) isCode = !isCode;
    if (!isCode) continue;
    if (line.startsWith("#")) comment = line.slice(1).trim();
    for (const words of shellCommands(line, {})) {
      const at = words.findIndex((word, i) => word === "llmnode" && words[i + 1] === "join");
      if (at < 0) continue;
      const cut = words.indexOf("--");
      recipes.push({ line, argv: cut < 0 ? null : words.slice(cut + 1), engine, comment });
    }
  }
  return recipes;
}

const page = (name: string) =>
  joinLines(readFileSync(join(import.meta.dir, "../../..", name), "utf8"));
const recipes = page("docs/engines.md").filter(({ engine }) => engine in KINDS);
const commands = recipes.flatMap(({ argv, ...rest }) => (argv ? [{ argv, ...rest }] : []));

test("the page shows each engine bare and in a container, in all its cases", () => {
  expect(new Set(recipes.map(({ engine }) => engine))).toEqual(new Set(Object.keys(KINDS)));
  for (const engine of Object.keys(KINDS)) {
    const own = commands.filter((recipe) => recipe.engine === engine);
    const inContainers = own.filter(({ argv }) => argv[0] === "docker");
    expect([engine, inContainers.length * 2]).toEqual([engine, own.length]);
    expect(new Set(own.map(({ comment }) => comment)).size).toBeGreaterThanOrEqual(4);
  }
});

describe("each recipe is understood", () => {
  for (const { line, argv, engine, comment } of commands) {
    test(line, () => {
      const hints = readEngineArgv(argv, { HF_TOKEN: "x" });
      expect(hints.kind).toBe(KINDS[engine] ?? "generic");
      expect(hints.noHttp).toBeNull();
      expect(hints.port ?? hints.usualPort).toBeGreaterThan(0);
      if (engine !== "Ollama") expect(hints.models.length).toBe(1);
      if (comment.includes("4 GPUs")) expect(hints.gpusWanted).toBe(4);
      const container = readContainerCommand(argv, { HF_TOKEN: "x" });
      expect(container !== null).toBe(argv[0] === "docker");
      if (container === null) return;
      expect(hints.port).toBe(container.publish[0]?.hostPort ?? null);
      expect(hints.containerPort).toBe(container.publish[0]?.containerPort ?? null);
      // What is recommended needs no advice.
      expect(adviseContainer(container, hints)).toEqual([]);
    });
  }
});

test("two workers on one host do not share a port", () => {
  for (const engine of Object.keys(KINDS)) {
    for (const inContainer of [false, true]) {
      const ports = commands
        .filter((one) => one.engine === engine && one.comment.startsWith("two workers"))
        .filter(({ argv }) => (argv[0] === "docker") === inContainer)
        .map(({ argv }) => readEngineArgv(argv, {}))
        .map(({ port, usualPort }) => port ?? usualPort);
      expect([engine, ports.length, new Set(ports).size]).toEqual([engine, 2, 2]);
    }
  }
});

test("the lines of the other pages are understood as well", () => {
  const pages = ["README.md", "docs/workers.md", "docs/containers.md", "docs/api.md"];
  const others = pages.flatMap(page).flatMap(({ argv }) => (argv ? [argv] : []));
  expect(others.length).toBeGreaterThan(5);
  for (const argv of others) {
    const { kind, noHttp } = readEngineArgv(argv, {});
    expect([argv.join(" "), noHttp]).toEqual([argv.join(" "), null]);
    // Somebody's own server, and a project of several parts.
    if (argv[0]?.startsWith("./") || argv[1] === "compose") continue;
    expect([argv.join(" "), kind]).not.toEqual([argv.join(" "), "generic"]);
  }
});
