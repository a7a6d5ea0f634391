/** Which GPUs an engine may use: what `--gpus` says becomes its environment, or is held against it. */

import { LlmnodeError } from "../../protocol/errors.ts";
import type { Log } from "../../util/log.ts";
import { cleanLine, count } from "../../util/text.ts";
import type { ContainerCommand } from "../docker/argv/command.ts";
import { optionValues } from "../docker/argv/words.ts";
import { commaList } from "../flags.ts";
import type { Environment } from "../shell-words.ts";
import { peelWrappers } from "../wrappers.ts";
import type { LaunchFacts } from "./argv.ts";

export interface MachineGpu {
  uuid: string;
  index: number;
  name: string;
  /** Of a MIG instance: its GPU. It cannot be named by an index. */
  migParent: string | null;
  vendor: "nvidia" | "amd";
}

/** Asks the tools on `path` for the GPUs of this machine; null: there is no such tool. */
export type ListGpus = (options: {
  path: string | undefined;
}) => Promise<readonly MachineGpu[] | null>;

export interface GpuPinOptions {
  /** What a person gave: `0,1`, `GPU-...`, `MIG-...`; null: nothing. */
  gpus: string | null;
  /** Of the engine's command; null for an engine that runs already. */
  launch: LaunchFacts | null;
  env: Environment;
  /** The GPUs of this machine, null where no tool tells; asked only if somebody names some. */
  listGpus: ListGpus;
  /** How long a start waits for the list where nothing depends on it. Default: 3 s. */
  patienceMs?: number;
  /** How many the engine asks for; null: unknown. */
  wanted: number | null;
  log: Log;
}

export interface GpuPin {
  /** To be set on top of the engine's environment; undefined: not to be there. */
  env: Environment;
  /** The GPUs that it may use; empty: all, or it is not known which. */
  uuids: string[];
}

const FREE: GpuPin = { env: {}, uuids: [] };

const PATIENCE_MS = 3_000;

/** What limits CUDA, as it is found in an environment. */
const VISIBLE = "CUDA_VISIBLE_DEVICES";

/** The names in a list such as `0,1` or `GPU-5b1c...`. Throws LlmnodeError `usage`. */
export function parseGpus(text: string): string[] {
  const names = text.split(",").map((name) => name.trim());
  const wrong = names.find((name) => !/^(?:\d{1,4}|(?:GPU|MIG)-[0-9A-Za-z/-]{4,80})$/.test(name));
  const hints = ["write indexes as nvidia-smi shows them, or UUIDs: --gpus 0,1"];
  if (wrong !== undefined) {
    throw new LlmnodeError("usage", `--gpus: "${cleanLine(wrong, 100)}" names no GPU`, { hints });
  }
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  if (twice !== undefined) {
    throw new LlmnodeError("usage", `--gpus names GPU ${twice} twice`, { hints });
  }
  return names;
}

/**
 * Throws LlmnodeError `usage`: a list that is none, a GPU that this machine has not, a command that
 * says another thing. Where no tool tells of the GPUs, what was given is taken as it is.
 */
export async function pinGpus(options: GpuPinOptions): Promise<GpuPin> {
  const { gpus, launch, env } = options;
  const path = env["PATH"];
  const container = launch?.container ?? null;
  if (gpus === null) {
    const names = container ? containerGpus(container) : visibleIn(launch?.engineEnv);
    if (!Array.isArray(names) || names.length === 0) return FREE;
    // Good to know, but no engine waits for a driver that hangs.
    const late = Bun.sleep(options.patienceMs ?? PATIENCE_MS).then(() => null);
    const machine = await Promise.race([options.listGpus({ path }), late]);
    return { env: {}, uuids: names.flatMap((name) => find(machine, name)?.uuid ?? []) };
  }
  const names = parseGpus(gpus);
  const machine = await options.listGpus({ path });
  const uuids = names.flatMap((name) => uuidOf(machine, name) ?? []);
  if (machine === null) {
    options.log.warn("cannot list this machine's GPUs: --gpus is used unchecked", { gpus });
  }
  if (container) checkContainer(container, names, machine);
  else if (options.wanted !== null && options.wanted > names.length) {
    const asked = count(options.wanted, "GPU");
    options.log.warn(`the engine wants ${asked}, --gpus gives it ${names.length}`);
  }
  if (container || launch === null) return { env: {}, uuids };
  const set = visibility(names, machine);
  checkCommand(launch.argv, { ...env, ...set });
  return { env: set, uuids };
}

/** The variables that show an engine these GPUs and no others. */
function visibility(names: readonly string[], machine: readonly MachineGpu[] | null): Environment {
  // A list must not mix indexes and UUIDs.
  const isMixed = new Set(names.map((name) => /^\d/.test(name))).size > 1;
  const list = names.map((name) => (isMixed ? (find(machine, name)?.uuid ?? name) : name)).join();
  if (machine?.[0]?.vendor !== "amd") {
    // Indexes are nvidia-smi's only in this order; CUDA's own begins with the fastest.
    return { [VISIBLE]: list, CUDA_DEVICE_ORDER: "PCI_BUS_ID" };
  }
  // HIP counts among what ROCr shows: both at once would hide too much. Ray wants the former.
  return /^\d/.test(list)
    ? { HIP_VISIBLE_DEVICES: list, ROCR_VISIBLE_DEVICES: undefined, [VISIBLE]: undefined }
    : { ROCR_VISIBLE_DEVICES: list, HIP_VISIBLE_DEVICES: undefined, [VISIBLE]: undefined };
}

/** A command such as `env CUDA_VISIBLE_DEVICES=3 vllm ...` has the last word, so it must agree. */
function checkCommand(argv: readonly string[], env: Environment): void {
  const commands = peelWrappers(argv, env);
  for (const name of [VISIBLE, "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"]) {
    const own = commands.find((peeled) => peeled.env[name] !== env[name]);
    if (!own) continue;
    const value = cleanLine(own.env[name] ?? "", 100);
    throw new LlmnodeError("usage", `the command sets ${name}=${value} itself, beside --gpus`, {
      hints: ["name the GPUs in one place only"],
    });
  }
}

/** The GPUs that an engine's own environment leaves it; null: all, or not to be known. */
function visibleIn(own: Environment | undefined): string[] | null {
  const list = own?.[VISIBLE] ?? own?.["HIP_VISIBLE_DEVICES"] ?? own?.["ROCR_VISIBLE_DEVICES"];
  // In another order an index means another GPU.
  const isSorted = (own?.["CUDA_DEVICE_ORDER"] ?? "PCI_BUS_ID") === "PCI_BUS_ID";
  return list === undefined || !isSorted ? null : commaList(list);
}

/** The GPUs that a container's command gives it: by name, all, so many, or none. */
function containerGpus(command: ContainerCommand): string[] | "all" | "some" | "none" {
  const { gpus } = command;
  if (gpus !== null) {
    // Docker's forms: all | 2 | device=0 | "device=0,2" | "device=0,2",capabilities=utility
    const devices = /"device=([^"]*)"/.exec(gpus) ?? /(?:^|,)device=([^,"]+)/.exec(gpus);
    if (devices) return commaList(devices[1]);
    return /^["']?(?:all|count=all|-1)\b/.test(gpus) ? "all" : "some";
  }
  const cdi = optionValues(command.options, "--device").flatMap(
    (device) => /^(?:nvidia|amd)\.com\/gpu=(.+)$/.exec(device)?.[1] ?? [],
  );
  if (cdi.includes("all")) return "all";
  if (cdi.length > 0) return cdi;
  if (!command.hasGpu) return "none";
  const visible = command.env["NVIDIA_VISIBLE_DEVICES"];
  return visible === undefined || visible === "all" ? "all" : commaList(visible);
}

function checkContainer(
  command: ContainerCommand,
  names: readonly string[],
  machine: readonly MachineGpu[] | null,
): void {
  const given = containerGpus(command);
  const key = (name: string) => find(machine, name)?.uuid ?? name;
  const same = Array.isArray(given) && sameSet(given.map(key), names.map(key));
  if (same) return;
  const what = Array.isArray(given) ? `GPU ${cleanLine(given.join(","), 200)}` : WORDS[given];
  const flag =
    command.tool === "podman"
      ? names.map((name) => `--device nvidia.com/gpu=${name}`).join(" ")
      : `--gpus '"device=${names.join()}"'`;
  throw new LlmnodeError(
    "usage",
    `--gpus says ${names.join()}, but the command gives the container ${what}`,
    { hints: [`a container's GPUs are in its own command: ${command.tool} run ${flag} ...`] },
  );
}

const WORDS = { all: "all GPUs", some: "some GPUs, which is not known", none: "no GPU" };

function sameSet(a: readonly string[], b: readonly string[]): boolean {
  const other = new Set(b);
  return new Set(a).size === other.size && a.every((name) => other.has(name));
}

/** The UUID of a name; null where nothing is known of this machine's GPUs. Throws `usage`. */
function uuidOf(machine: readonly MachineGpu[] | null, name: string): string | null {
  if (machine === null) return /^\d/.test(name) ? null : name;
  const gpu = find(machine, name);
  if (gpu) return gpu.uuid;
  const whole = machine.filter(({ migParent }) => migParent === null);
  const indexes = whole.map(({ index }) => index).sort((a, b) => a - b);
  const tool = machine[0]?.vendor === "amd" ? "amd-smi list" : "nvidia-smi -L";
  throw new LlmnodeError("usage", `--gpus: this machine has no GPU ${name}`, {
    hints: [`it has ${indexes.slice(0, 64).join(", ")}; ${tool} shows them with their UUIDs`],
  });
}

/** By index, UUID, or a beginning of a UUID that only one has, as CUDA takes it. */
function find(machine: readonly MachineGpu[] | null, name: string): MachineGpu | null {
  const all = machine ?? [];
  if (/^\d+$/.test(name)) {
    return all.find((gpu) => gpu.migParent === null && gpu.index === Number(name)) ?? null;
  }
  const exact = all.find((gpu) => gpu.uuid === name);
  if (exact) return exact;
  const starting = all.filter((gpu) => gpu.uuid.startsWith(name));
  return starting.length === 1 ? (starting[0] ?? null) : null;
}
