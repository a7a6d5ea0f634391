/** Reads an engine's command: which engine it is, and where and what it will serve. */

import { PRESETS } from "./presets/all.ts";
import type { CommandHints, EngineCommand, EnginePreset } from "./presets/preset.ts";
import type { Environment } from "./shell-words.ts";
import type { EngineKind } from "./status.ts";
import { peelWrappers, programName } from "./wrappers.ts";

/**
 * What a command says about its engine. Hints: the running engine has the last word.
 * `port` null: not named; 0: any free one, which the engine prints. `host`: as written.
 * `models`: the names that it will be known by, as far as the command tells.
 */
export interface EngineHints extends CommandHints {
  kind: EngineKind;
}

/**
 * Recognises the engine behind wrappers such as `env`, `sudo`, `uv run` and `bash -c`, and reads
 * the flags and variables that matter. Never throws: what it cannot read is null or empty.
 */
export function readEngineArgv(argv: readonly string[], env: Environment): EngineHints {
  const candidates = peelWrappers(argv, env).map((peeled) => {
    const { preset, args } = recognise(engineCommand(peeled.argv));
    return { kind: preset.kind, ...preset.hints(args, peeled.env) };
  });
  const known = candidates.find((hints) => hints.kind !== "generic") ?? candidates[0];
  return known ?? { kind: "generic", ...PRESETS.generic.hints([], env) };
}

function recognise(command: EngineCommand): { preset: EnginePreset; args: readonly string[] } {
  for (const preset of Object.values(PRESETS)) {
    const args = preset.match(command);
    if (args !== null) return { preset, args };
  }
  return { preset: PRESETS.generic, args: command.args };
}

// Python's own flags that take the next word.
const PYTHON_VALUES = new Set(["-W", "-X", "--check-hash-based-pycs"]);

/** Sees through the interpreter: `python -u -m vllm.x --a` is the program `vllm.x` with `--a`. */
function engineCommand(argv: readonly string[]): EngineCommand {
  const program = programName(argv[0]);
  if (!/^(?:python|pypy)[\d.]*$/.test(program)) return { program, args: argv.slice(1) };
  for (let i = 1; i < argv.length; i += 1) {
    const word = argv[i] ?? "";
    if (/^-[A-Za-z]*m$/.test(word)) return { program: argv[i + 1] ?? "", args: argv.slice(i + 2) };
    if (PYTHON_VALUES.has(word)) i += 1;
    else if (!word.startsWith("-")) {
      return { program: scriptProgram(word), args: argv.slice(i + 1) };
    }
  }
  return { program, args: argv.slice(1) };
}

/** A script by its file name, or by its module where it lies inside a package that we know. */
function scriptProgram(path: string): string {
  const inPackage = /(?:^|\/)((?:vllm|sglang|lmdeploy|dynamo)\/[\w/]+)\.py$/.exec(path);
  return inPackage?.[1]?.replaceAll("/", ".") ?? programName(path);
}
