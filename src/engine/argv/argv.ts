/** Reads an engine's command: which engine it is, and where and what it will serve. */

import { expandConfig, readKeyFile } from "./config-file.ts";
import {
  type ContainerCommand,
  readContainerCommand,
  readToolCall,
  type ToolCall,
} from "../docker/argv/command.ts";
import { publishedAt } from "../docker/argv/publish.ts";
import { PRESETS } from "../presets/all.ts";
import {
  type CommandFacts,
  type EngineCommand,
  type EngineImage,
  type EnginePreset,
  NO_FACTS,
} from "../presets/preset.ts";
import type { Environment } from "../shell-words.ts";
import type { EngineKind } from "../status.ts";
import { type Peeled, peelWrappers, programName } from "../wrappers.ts";

/**
 * What a command says about its engine. Facts: the running engine has the last word.
 * `port` null: not named; 0: any free one, which the engine prints. `host`: as written.
 * `models`: the names that it will be known by, as far as the command tells. Of a container, `port`
 * and `host` are those of this machine.
 */
export interface ArgvFacts extends CommandFacts {
  kind: EngineKind;
  /** The port that it takes when none is named; null: only the running engine can tell. */
  usualPort: number | null;
  /** The port inside its container; null: no container, or not known. */
  containerPort: number | null;
  /** The address that it listens on inside its container; null: all, no container, or not known. */
  listensInside: string | null;
  launch: LaunchFacts;
}

/** How a command starts its engine; asked once, for all who need to know. */
export interface LaunchFacts {
  argv: readonly string[];
  /** The environment that the engine itself finds, behind its wrappers. */
  engineEnv: Environment;
  /** The container tool or compose that it calls; null: none to whose words can be added. */
  toolCall: ToolCall | null;
  /** The container that it runs; null: none to whose command can be added. */
  container: ContainerCommand | null;
  /** Whether a container is started where nothing can be added: in a shell's line. */
  isHidden: boolean;
}

type WordFacts = Omit<ArgvFacts, "launch">;

/**
 * Recognises the engine behind wrappers such as `env`, `sudo`, `uv run` and `bash -c`, or inside a
 * container, and reads the flags, variables and configuration files that matter. `cwd` is the
 * folder that the command will run in. Never throws: what it cannot read is null or empty.
 */
export function readEngineArgv(
  argv: readonly string[],
  env: Environment,
  { cwd = process.cwd() }: { cwd?: string } = {},
): ArgvFacts {
  const peeled = peelWrappers(argv, env);
  const commands = peeled.map(seenInside);
  const toolCall = readToolCall(argv, env, peeled[0]);
  const container = toolCall && readContainerCommand(argv, env, toolCall);
  const isHidden = container === null && commands.some((command) => command.container !== null);
  const engineEnv = peeled[0]?.env ?? env;
  const launch = { argv, engineEnv, toolCall, container, isHidden };
  return { ...factsOfBest(commands, env, cwd), launch };
}

/** A command without its wrappers, and the container that it runs. */
interface SeenCommand {
  peeled: Peeled;
  container: ContainerCommand | null;
}

function seenInside(peeled: Peeled): SeenCommand {
  const call = readToolCall(peeled.argv, peeled.env, peeled);
  return { peeled, container: call && readContainerCommand(peeled.argv, peeled.env, call) };
}

/** What a container runs: the files that its command names are out of reach. */
function readInside(argv: readonly string[], env: Environment): WordFacts {
  return factsOfBest(peelWrappers(argv, env).map(seenInside), env, null);
}

/** `cwd` null: the files that a command names are out of reach. */
function factsOfBest(
  commands: readonly SeenCommand[],
  env: Environment,
  cwd: string | null,
): WordFacts {
  const found = commands.map(({ peeled, container }) => {
    if (container !== null) return readContainer(container);
    const command = engineCommand(peeled);
    for (const preset of Object.values(PRESETS)) {
      const args = preset.match(command);
      if (args !== null) return factsOf(preset, args, { env: peeled.env, cwd });
    }
    return factsOf(PRESETS.generic, command.args, { env: peeled.env, cwd });
  });
  const known = found.filter(({ kind }) => kind !== "generic");
  const best = known.find(({ noHttp }) => noHttp === null) ?? known[0] ?? found[0];
  return best ?? factsOf(PRESETS.generic, [], { env, cwd });
}

function factsOf(
  preset: EnginePreset,
  words: readonly string[],
  { env, cwd }: { env: Environment; cwd: string | null },
): WordFacts {
  const { configFlag, kind, defaultPort } = preset;
  const { args, isWhole } =
    configFlag === undefined
      ? { args: words, isWhole: true }
      : expandConfig(words, configFlag, cwd);
  const facts = { ...NO_FACTS, ...preset.argvFacts(args, env) };
  const { apiKeyFile } = facts;
  return {
    ...facts,
    apiKey: facts.apiKey ?? (apiKeyFile === null ? null : readKeyFile(apiKeyFile, cwd)),
    kind,
    usualPort: isWhole ? defaultPort : null,
    containerPort: null,
    listensInside: null,
  };
}

/** Its environment is the image's and what `-e` adds: this machine's stays outside. */
function readContainer(container: ContainerCommand): WordFacts {
  const { args, entrypoint, publish, hostNetwork } = container;
  const own = presetOfImage(container.image);
  const env = { ...own?.image.env, ...container.env };
  const words = args.length === 0 ? (own?.image.command ?? []) : args;
  // A whole command follows some images; others put their own words before what follows.
  const whole = readInside(entrypoint ? [entrypoint, ...args] : words, env);
  let facts = whole;
  if (whole.kind === "generic" && own !== null && !entrypoint) {
    const { preset, image } = own;
    if (image.entrypoint.length > 0) facts = readInside([...image.entrypoint, ...words], env);
    // A script inside the engine's image.
    else
      facts = {
        ...whole,
        kind: preset.kind,
        usualPort: preset.defaultPort,
        host: whole.host ?? "0.0.0.0",
      };
  }
  const inside = facts.port ?? facts.usualPort;
  if (hostNetwork) return { ...facts, containerPort: inside };
  const listensInside = facts.host ?? PRESETS[facts.kind].defaultHost;
  const outside = publishedAt(publish, inside);
  return {
    ...facts,
    port: outside?.port ?? null,
    host: outside?.host ?? null,
    usualPort: null,
    containerPort: inside,
    // A script may do as it likes, and a file that is out of reach may say anything.
    listensInside: facts.usualPort === null ? facts.host : listensInside,
  };
}

interface OwnImage {
  preset: EnginePreset;
  image: EngineImage;
}

/** Whose official image it is, wherever it was copied to. */
function presetOfImage(reference: string): OwnImage | null {
  const [, name = "", tag = "latest"] = /^(.*?)(?::([^:/@]*))?(?:@[^@]*)?$/.exec(reference) ?? [];
  for (const preset of Object.values(PRESETS)) {
    const { image } = preset;
    if (image && image.name.test(name) && (image.tag?.test(tag) ?? true)) return { preset, image };
  }
  return null;
}

// Python's own flags that take the next word.
const PYTHON_VALUES = new Set(["-W", "-X", "--check-hash-based-pycs"]);

/** Sees through the interpreter: `python -u -m vllm.x --a` is the program `vllm.x` with `--a`. */
function engineCommand({ argv, program }: Peeled): EngineCommand {
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
