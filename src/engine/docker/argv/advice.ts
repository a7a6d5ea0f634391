/** What will hurt about a container command, said before it does: one line each. Pure. */

import { isLoopback } from "../../../util/host-port.ts";
import type { EngineKind } from "../../status.ts";
import type { ContainerCommand } from "./command.ts";

export interface AdviceFacts {
  kind: EngineKind;
  /** The models that the command names. */
  models: readonly string[];
  /** The port that the engine takes inside; null: not known. */
  containerPort: number | null;
  /** The address that it listens on inside; null: all, or not known. */
  listensInside: string | null;
  /** How many GPUs the command asks for; null: it does not say. */
  gpusWanted: number | null;
}

/** Where images keep models, by kind; docs of each engine's image, August 2026. */
const CACHES: Partial<Record<EngineKind, { host: string; inside: string }>> = {
  vllm: { host: "~/.cache/huggingface", inside: "/root/.cache/huggingface" },
  sglang: { host: "~/.cache/huggingface", inside: "/root/.cache/huggingface" },
  trtllm: { host: "~/.cache/huggingface", inside: "/root/.cache/huggingface" },
  lmdeploy: { host: "~/.cache/huggingface", inside: "/root/.cache/huggingface" },
  tgi: { host: "$PWD/data", inside: "/data" },
  tei: { host: "$PWD/data", inside: "/data" },
  ollama: { host: "ollama", inside: "/root/.ollama" },
  "llama-server": { host: "~/.cache/llama.cpp", inside: "/root/.cache/llama.cpp" },
};

/** They drive all their GPUs from one process. */
const ONE_PROCESS: ReadonlySet<EngineKind> = new Set(["llama-server", "ollama"]);

/** Variables that move the cache. */
const CACHE_VARIABLES = ["HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "OLLAMA_MODELS"];

/** Images that are made for NVIDIA's GPUs and do little or nothing without one. */
const GPU_IMAGES =
  /(?:^|\/)(?:vllm\/vllm-openai|lmsysorg\/sglang|openmmlab\/lmdeploy|nvidia\/tensorrt-llm\/|ai-dynamo\/|huggingface\/text-generation-inference|huggingface\/text-embeddings-inference)|llama\.cpp:(?:server|full|light)-cuda/;
/** Builds of the same images for something else. */
const OTHER_BUILDS = /(?:rocm|cpu|xpu|intel|neuron|gaudi|hpu|tpu|arm64)/;

/** Each line says what is wrong and what to add or leave out. */
export function adviseContainer(command: ContainerCommand, facts: AdviceFacts): string[] {
  const { tool } = command;
  return [
    adviseOnMemory(command, facts),
    adviseOnCache(command, facts),
    command.tty ? `left out -t: there is no terminal, and ${tool} would refuse to start` : null,
    adviseOnGpus(command),
    adviseOnPort(command, facts),
    adviseOnHost(command, facts),
    command.restart === null
      ? null
      : `--restart ${command.restart} makes ${tool} restart the engine by itself: leave it out, the worker restarts it`,
    command.name === null
      ? null
      : `--name ${command.name} can be used by one worker of this machine only: without it, each takes a name of its own`,
  ].filter((line) => line !== null);
}

function adviseOnMemory(
  command: ContainerCommand,
  { gpusWanted, kind }: AdviceFacts,
): string | null {
  if (ONE_PROCESS.has(kind)) return null;
  if (command.ipcHost || command.shmSize !== null) return null;
  if (command.mounts.includes("/dev/shm") || (gpusWanted ?? 1) < 2) return null;
  return `${gpusWanted ?? 0} GPUs share memory, and a container has 64 MiB of it: add --ipc=host or --shm-size 16g`;
}

function adviseOnCache(
  { mounts, env, tool, args }: ContainerCommand,
  { kind, models }: AdviceFacts,
): string | null {
  const cache = CACHES[kind];
  if (!cache || CACHE_VARIABLES.some((name) => env[name])) return null;
  // Weights that the command names by a path come from a mount or are in the image.
  if (models.length > 0 && models.every((model) => model.startsWith("/"))) return null;
  if (args.some((arg) => mounts.some((path) => isWithin(arg, path)))) return null;
  const isMounted = mounts.some(
    (path) => isWithin(path, cache.inside) || isWithin(cache.inside, path),
  );
  if (isMounted) return null;
  return `the model is downloaded again for each new container: keep it with ${tool} run -v ${cache.host}:${cache.inside}`;
}

function adviseOnGpus({ image, hasGpu, tool }: ContainerCommand): string | null {
  if (hasGpu || !GPU_IMAGES.test(image) || OTHER_BUILDS.test(image)) return null;
  const flag = tool === "podman" ? "--device nvidia.com/gpu=all" : "--gpus all";
  return `${image} wants a GPU, and the command hands none in: add ${flag}`;
}

function adviseOnPort(command: ContainerCommand, { containerPort }: AdviceFacts): string | null {
  const { hostNetwork, publishAll, publish, network } = command;
  if (hostNetwork || publishAll || network?.startsWith("container:")) return null;
  if (publish.length === 0) {
    const port = containerPort ?? 8000;
    return `no port is published, so the engine is asked at the container's own address, which not every setup allows: add -p 127.0.0.1:${port}:${port}`;
  }
  const isPublished = publish.some((entry) => entry.containerPort === containerPort);
  if (containerPort === null || isPublished) return null;
  const others = publish.map((entry) => entry.containerPort).join(", ");
  return `the engine listens on port ${containerPort} of the container, but -p publishes ${others}: use -p ${publish[0]?.hostPort ?? containerPort}:${containerPort}`;
}

function adviseOnHost(
  { hostNetwork, tool }: ContainerCommand,
  { listensInside }: AdviceFacts,
): string | null {
  if (hostNetwork || listensInside === null || !isLoopback(listensInside)) return null;
  return `the engine listens on ${listensInside} inside its container, where ${tool} cannot reach it: add --host 0.0.0.0 to its own flags`;
}

function isWithin(path: string, folder: string): boolean {
  const base = folder.replace(/\/+$/, "");
  return path === base || path.startsWith(`${base}/`);
}
