/** Reads `docker run ...` (podman, nerdctl): what it runs, where its ports go, what it may use. */

import type { Environment } from "../../shell-words.ts";
import { type Peeled, peelWrappers } from "../../wrappers.ts";
import { readPublish, type Publish } from "./publish.ts";
import {
  isOn,
  optionValues,
  readOptions,
  RUN_OPTIONS,
  TOOL_OPTIONS,
  type Option,
} from "./words.ts";

export type ContainerTool = "docker" | "podman" | "nerdctl";

/** A command that runs a container, read. Nothing in it was checked with the tool. */
export interface ContainerCommand {
  tool: ContainerTool;
  /** As written, for example `vllm/vllm-openai:latest`. */
  image: string;
  /** What follows the image: the engine's own words. */
  args: readonly string[];
  /** The first word of `--entrypoint`; null: the image's own. */
  entrypoint: string | null;
  /** Variables set with `-e`; one that is only named has the value of the caller's environment. */
  env: Environment;
  publish: readonly Publish[];
  /** Whether `-P` publishes all ports of the image. */
  publishAll: boolean;
  /** The last `--network`; null: the tool's default. */
  network: string | null;
  hostNetwork: boolean;
  detached: boolean;
  /** The last value of `--gpus`; null: not given. */
  gpus: string | null;
  /** Whether GPUs reach it in any way: `--gpus`, `--device`, `--runtime nvidia`, `--privileged`. */
  hasGpu: boolean;
  shmSize: string | null;
  ipcHost: boolean;
  /** Where something of this machine, or a volume, is mounted: paths inside the container. */
  mounts: readonly string[];
  rm: boolean;
  /** A `--restart` other than `no`. */
  restart: string | null;
  name: string | null;
  cidfile: string | null;
  tty: boolean;
  /** How the tool is called: wrappers, program and its own options, before the subcommand. */
  prefix: readonly string[];
  /** The place of the word `run` in the whole command. */
  runAt: number;
  imageAt: number;
  options: readonly Option[];
}

/**
 * The container command in `argv`, behind wrappers such as `sudo` and `env`, or null if it is
 * none. A line for a shell (`bash -c "docker run ..."`) is none: its words cannot be added to.
 */
export function readContainerCommand(
  argv: readonly string[],
  env: Environment = {},
  call: ToolCall | null = readToolCall(argv, env),
): ContainerCommand | null {
  const tool = call === null ? null : toolOf(call.program);
  if (call === null || tool === null) return null;
  const runAt = argv[call.next] === "container" ? call.next + 1 : call.next;
  if (argv[runAt] !== "run") return null;
  const { options, next: imageAt } = readOptions(argv, runAt + 1, RUN_OPTIONS);
  const image = argv[imageAt];
  if (image === undefined || image === "") return null;

  const last = (...names: string[]) => optionValues(options, ...names).at(-1) ?? null;
  const network = last("--network", "--net");
  const restart = last("--restart");
  const gpus = last("--gpus");
  return {
    tool,
    image,
    args: argv.slice(imageAt + 1),
    entrypoint: last("--entrypoint"),
    env: readEnvironment(optionValues(options, "-e", "--env"), env),
    publish: optionValues(options, "-p", "--publish").flatMap(readPublish),
    publishAll: isOn(options, "-P", "--publish-all"),
    network,
    hostNetwork: network === "host",
    detached: isOn(options, "-d", "--detach"),
    gpus,
    hasGpu: gpus !== null || hasGpuOtherwise(options),
    shmSize: last("--shm-size"),
    ipcHost: last("--ipc") === "host",
    mounts: readMounts(options),
    rm: isOn(options, "--rm"),
    restart: restart === "no" ? null : restart,
    name: last("--name"),
    cidfile: last("--cidfile"),
    tty: isOn(options, "-t", "--tty"),
    prefix: argv.slice(0, call.next),
    runAt,
    imageAt,
    options,
  };
}

export interface ToolCall {
  /** The file name of the program. */
  program: string;
  /** The place of the program in the whole command. */
  at: number;
  /** The place of the first word after the program's own options. */
  next: number;
}

const TOOL_PROGRAM = /^(?:docker|podman|nerdctl)(?:-compose)?(?:\.(?:exe|lima))?$/;

/** Steps over its wrappers and its own options. `peeled`: the command without its wrappers. */
export function readToolCall(
  argv: readonly string[],
  env: Environment,
  peeled: Peeled | undefined = peelWrappers(argv, env)[0],
): ToolCall | null {
  const program = peeled?.program ?? "";
  if (peeled === undefined || !TOOL_PROGRAM.test(program)) return null;
  const at = argv.length - peeled.argv.length;
  // What a shell's line holds does not stand at the end of the command as it is.
  if (peeled.argv.some((word, i) => argv[at + i] !== word)) return null;
  const { next } = readOptions(argv, at + 1, TOOL_OPTIONS);
  return { program, at, next };
}

function toolOf(program: string): ContainerTool | null {
  const name = program.replace(/\.(?:exe|lima)$/, "");
  return name === "docker" || name === "podman" || name === "nerdctl" ? name : null;
}

function readEnvironment(entries: readonly string[], env: Environment): Environment {
  const read: Environment = {};
  for (const entry of entries) {
    const cut = entry.indexOf("=");
    if (cut < 0) read[entry] = env[entry];
    else read[entry.slice(0, cut)] = entry.slice(cut + 1);
  }
  return read;
}

function hasGpuOtherwise(options: readonly Option[]): boolean {
  const devices = optionValues(options, "--device").some((device) =>
    /nvidia|amd\.com\/gpu|\/dev\/(?:kfd|dri|dxg|davinci)/.test(device),
  );
  const runtime = optionValues(options, "--runtime").some((name) => name.includes("nvidia"));
  return devices || runtime || isOn(options, "--privileged");
}

/** `-v [what:]where[:how]` and `--mount type=...,target=where`. */
function readMounts(options: readonly Option[]): string[] {
  const volumes = optionValues(options, "-v", "--volume").map((text) => {
    const parts = text.split(":");
    return (parts.length === 1 ? parts[0] : parts[1]) ?? "";
  });
  const mounts = optionValues(options, "--mount").map((text) => {
    return /(?:^|,)(?:target|dst|destination)=([^,]*)/.exec(text)?.[1] ?? "";
  });
  return [...volumes, ...mounts].filter((path) => path !== "");
}
