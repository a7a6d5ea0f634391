/** Knows the GPUs of this machine: gathers what their tools report and forgets what got old. */

import { readFile } from "node:fs/promises";
import { sleep } from "../util/sleep.ts";
import { readAmdSmi, readRocmSmi, ROCM_SMI_ARGS } from "./amd.ts";
import type { GpuProcess, GpuSample } from "./gpu.ts";
import { computeProcesses } from "./known-gpus.ts";
import { machineMemory } from "./machine.ts";
import { NVIDIA_LOOP_DEFAULTS, type NvidiaLoopSettings, startNvidiaLoop } from "./nvidia-loop.ts";
import { readGpuList, readMig } from "./nvidia-mig.ts";
import type { GpuRow } from "./nvidia-query.ts";
import { askTool, findTool, readTool, type ToolOptions } from "./tools.ts";

/** A sample and the time of its reading, by `performance.now()`. */
export interface AgedGpu {
  gpu: GpuSample;
  at: number;
}

export interface GpuReading {
  /** By index, MIG instances after their GPU. */
  gpus: readonly AgedGpu[];
  /** Why there are no figures, or not of all GPUs; null: all is well, or nothing is known yet. */
  problem: string | null;
  /** Null: not known. The same list until it is read again. */
  processes: readonly GpuProcess[] | null;
}

export interface Gpus extends AsyncDisposable {
  read(): GpuReading;
  /** What runs now; null where that is not known, at once if the driver is known to hang. */
  processes(): Promise<GpuProcess[] | null>;
}

export const GPU_DEFAULTS = {
  loop: {} as Partial<NvidiaLoopSettings>,
  /** Between two readings of the processes; each is a program of its own. */
  processesMs: 15_000,
  /** Between two readings of MIG instances, which cost seconds of CPU on a machine of many GPUs. */
  migMs: 60_000,
  /** Between two readings of AMD GPUs; each starts a Python program. */
  amdMs: 10_000,
  /** How long one of these programs may take. */
  toolTimeoutMs: 20_000,
  /** How long it may take where a caller waits for it. */
  promptTimeoutMs: 5_000,
  /** How long a GPU is reported after its last reading, or three times its interval. */
  forgetMs: 30_000,
  /** Where the machine's memory is read, for GPUs that share it. */
  memoryFile: "/proc/meminfo",
};

export type GpuSettings = typeof GPU_DEFAULTS;

/** Answers of all GPUs in full: some 30 KB each. */
const MAX_ANSWER_BYTES = 4 * 1024 * 1024;

export interface GpusOptions {
  /** Where the tools are looked for. Default: the PATH of this process. */
  path?: string | undefined;
  settings?: Partial<GpuSettings>;
}

/** What was found so far, by one kind of tool. */
interface Vendor {
  /** Null: not known yet. */
  isPresent: boolean | null;
  problem: string | null;
}

/** What the watchers below share. */
interface Watch {
  settings: GpuSettings;
  asking: ToolOptions;
  signal: AbortSignal;
  known: Map<string, AgedGpu & { keepMs: number }>;
  /** GPUs that are cut into MIG instances. */
  cut: Set<string>;
  nvidia: Vendor;
  amd: Vendor;
  wholeProcesses: GpuProcess[] | null;
  migProcesses: GpuProcess[];
  /** Both together. */
  processes: readonly GpuProcess[] | null;
  firstRow: PromiseWithResolvers<void>;
  firstCut: PromiseWithResolvers<void>;
}

/** Never throws; a machine without GPUs has none, and a reason. */
export function startGpus({ path, settings: given }: GpusOptions = {}): Gpus {
  const settings = { ...GPU_DEFAULTS, ...given };
  const loop = { ...NVIDIA_LOOP_DEFAULTS, ...settings.loop };
  const stopping = new AbortController();
  const watch = newWatch(settings, { path, signal: stopping.signal });
  const { known, nvidia, amd, asking } = watch;
  const nvidiaLoop = startNvidiaLoop({
    path,
    settings: loop,
    onRow: (row) => takeRow(watch, row, loop.intervalMs),
    onPresence: (present) => (nvidia.isPresent = present),
    onProblem: (problem) => (nvidia.problem = problem),
  });
  const watching = Promise.all([watchProcesses(watch), watchMig(watch), watchAmd(watch)]);

  return {
    read() {
      const now = performance.now();
      for (const [uuid, { at, keepMs }] of known) if (now - at > keepMs) known.delete(uuid);
      const gpus = [...known.values()].sort(byPlace);
      const nothing = nvidia.isPresent === false && amd.isPresent === false ? NO_TOOL : null;
      const problem = (nvidia.isPresent === true ? nvidia.problem : null) ?? amd.problem ?? nothing;
      return { gpus, problem, processes: watch.processes };
    },
    async processes() {
      const answers = [...known.values()].some(({ at }) => {
        return performance.now() - at <= 3 * Math.max(loop.intervalMs, settings.amdMs);
      });
      // The caller wants to stop or start an engine: not to wait for a driver.
      if (!answers && nvidia.problem !== null) return null;
      return computeProcesses({ ...asking, timeoutMs: settings.promptTimeoutMs });
    },
    async [Symbol.asyncDispose]() {
      stopping.abort();
      await Promise.all([nvidiaLoop[Symbol.asyncDispose](), watching]);
    },
  };
}

function newWatch(
  settings: GpuSettings,
  { path, signal }: { path: string | undefined; signal: AbortSignal },
): Watch {
  const firstRow = Promise.withResolvers<void>();
  const firstCut = Promise.withResolvers<void>();
  signal.addEventListener("abort", () => (firstRow.resolve(), firstCut.resolve()), { once: true });
  return {
    settings,
    asking: { timeoutMs: settings.toolTimeoutMs, path, signal, maxBytes: MAX_ANSWER_BYTES },
    signal,
    known: new Map(),
    cut: new Set(),
    nvidia: { isPresent: null, problem: null },
    amd: { isPresent: null, problem: null },
    wholeProcesses: null,
    migProcesses: [],
    processes: null,
    firstRow,
    firstCut,
  };
}

function put({ known, settings }: Watch, gpu: GpuSample, everyMs: number): void {
  const keepMs = Math.max(settings.forgetMs, 3 * everyMs);
  known.set(gpu.uuid, { gpu, at: performance.now(), keepMs });
}

function takeRow(watch: Watch, { gpu, mig }: GpuRow, everyMs: number): void {
  const { cut, settings } = watch;
  if (mig) {
    cut.add(gpu.uuid);
    watch.firstCut.resolve();
  } else cut.delete(gpu.uuid);
  if (!gpu.unified) put(watch, gpu, everyMs);
  else void withMachineMemory(gpu, settings.memoryFile).then((full) => put(watch, full, everyMs));
  watch.firstRow.resolve();
}

async function every(ms: number, signal: AbortSignal, work: () => Promise<void>): Promise<void> {
  while (!signal.aborted) {
    await work();
    await sleep(ms, signal);
  }
}

function joinProcesses(watch: Watch): void {
  const { wholeProcesses, migProcesses } = watch;
  watch.processes = wholeProcesses && [...wholeProcesses, ...migProcesses];
}

async function watchProcesses(watch: Watch): Promise<void> {
  // Without a GPU there is nothing to ask, and a tool that is being installed is found later.
  await watch.firstRow.promise;
  await every(watch.settings.processesMs, watch.signal, async () => {
    watch.wholeProcesses = await computeProcesses(watch.asking);
    joinProcesses(watch);
  });
}

async function watchMig(watch: Watch): Promise<void> {
  const { settings, asking, cut } = watch;
  await watch.firstCut.promise;
  await every(settings.migMs, watch.signal, async () => {
    if (cut.size === 0) return;
    const list = await askTool(["nvidia-smi", "-L"], asking);
    const xml = await readTool(["nvidia-smi", "-q", "-x"], asking);
    // Old figures show their age, and go when they are too old.
    if (list.outcome !== "answered" || xml.outcome !== "answered") return;
    const reading = readMig(xml.text, readGpuList(list.lines));
    for (const gpu of reading.instances) put(watch, gpu, settings.migMs);
    watch.migProcesses = reading.processes;
    joinProcesses(watch);
  });
}

function watchAmd(watch: Watch): Promise<void> {
  const { settings, amd } = watch;
  return every(settings.amdMs, watch.signal, async () => {
    const gpus = await askAmd(watch.asking);
    amd.isPresent = gpus !== null;
    if (gpus === null) return;
    amd.problem = typeof gpus === "string" ? gpus : null;
    if (typeof gpus === "string") return;
    for (const gpu of gpus) put(watch, gpu, settings.amdMs);
    if (gpus.length > 0) watch.firstRow.resolve();
  });
}

const NO_TOOL = "there is no nvidia-smi, amd-smi or rocm-smi on the PATH";

/** The GPUs, why they cannot be read, or null where AMD's tools are missing. */
async function askAmd(asking: ToolOptions): Promise<GpuSample[] | string | null> {
  if (findTool("amd-smi", asking.path) !== null) {
    const [metric, list, names] = [
      await readTool(["amd-smi", "metric", "--json"], asking),
      await readTool(["amd-smi", "list", "--json"], asking),
      await readTool(["amd-smi", "static", "--asic", "--limit", "--json"], asking),
    ];
    if (metric.outcome === "failed") return metric.reason;
    if (metric.outcome === "absent") return null;
    const gpus = readAmdSmi(metric.text, {
      list: list.outcome === "answered" ? list.text : "",
      static: names.outcome === "answered" ? names.text : "",
    });
    return gpus ?? "amd-smi answers in a form that this version of llmnode does not know";
  }
  const answer = await readTool(["rocm-smi", ...ROCM_SMI_ARGS], asking);
  if (answer.outcome === "absent") return null;
  if (answer.outcome === "failed") return answer.reason;
  return (
    readRocmSmi(answer.text) ??
    "rocm-smi answers in a form that this version of llmnode does not know"
  );
}

/** Of a GPU that shares the machine's memory: its figures are the machine's. */
async function withMachineMemory(gpu: GpuSample, file: string): Promise<GpuSample> {
  const text = await readFile(file, "utf8").catch(() => "");
  const { memoryBytes, memoryUsedBytes } = machineMemory(text);
  return { ...gpu, memoryTotalBytes: memoryBytes, memoryUsedBytes };
}

function byPlace({ gpu: a }: AgedGpu, { gpu: b }: AgedGpu): number {
  if (a.index !== b.index) return a.index - b.index;
  const rank = Number(a.migParent !== null) - Number(b.migParent !== null);
  return rank !== 0 ? rank : a.uuid < b.uuid ? -1 : 1;
}
