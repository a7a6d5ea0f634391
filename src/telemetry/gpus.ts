/** Knows the GPUs of this machine: gathers what their tools say and forgets what got old. */

import { readFile } from "node:fs/promises";
import { sleep } from "../util/sleep.ts";
import { readAmdSmi, readRocmSmi, ROCM_SMI_ARGS } from "./amd.ts";
import { computeProcesses } from "./compute-processes.ts";
import type { GpuProcess, GpuSample } from "./gpu.ts";
import { NVIDIA_LOOP_DEFAULTS, type NvidiaLoopSettings, startNvidiaLoop } from "./nvidia-loop.ts";
import { readGpuList, readMig } from "./nvidia-mig.ts";
import type { GpuRow } from "./nvidia-query.ts";
import { askTool, findTool, readTool } from "./tools.ts";

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
  /** Null: not known. The same list until it is read anew. */
  processes: readonly GpuProcess[] | null;
}

export interface Gpus extends AsyncDisposable {
  read(): GpuReading;
  /** What runs now; null where nobody can tell, at once if the driver is known to hang. */
  processes(): Promise<GpuProcess[] | null>;
}

export interface GpuSettings {
  loop: Partial<NvidiaLoopSettings>;
  /** Between two readings of the processes; each is a program of its own. */
  processesMs: number;
  /** Between two readings of MIG instances, which cost seconds of CPU on a machine of many GPUs. */
  migMs: number;
  /** Between two readings of AMD GPUs; each starts a Python program. */
  amdMs: number;
  /** How long one of these programs may take. */
  toolTimeoutMs: number;
  /** How long it may take where somebody waits for it. */
  promptTimeoutMs: number;
  /** How long a GPU is told of after its last reading, or three times its interval. */
  forgetMs: number;
  /** Where the machine's memory is read, for GPUs that share it. */
  memoryFile: string;
}

export const GPU_DEFAULTS: GpuSettings = {
  loop: {},
  processesMs: 15_000,
  migMs: 60_000,
  amdMs: 10_000,
  toolTimeoutMs: 20_000,
  promptTimeoutMs: 5_000,
  forgetMs: 30_000,
  memoryFile: "/proc/meminfo",
};

/** Answers of all GPUs in full: some 30 KB each. */
const MAX_ANSWER_BYTES = 4 * 1024 * 1024;

export interface GpusOptions {
  /** Where the tools are looked for. Default: the PATH of this process. */
  path?: string | undefined;
  settings?: Partial<GpuSettings>;
}

/** Never throws; a machine without GPUs has none, and a reason. */
export function startGpus(options: GpusOptions = {}): Gpus {
  const settings = { ...GPU_DEFAULTS, ...options.settings };
  const loop = { ...NVIDIA_LOOP_DEFAULTS, ...settings.loop };
  const stopping = new AbortController();
  const { signal } = stopping;
  const { path } = options;
  const known = new Map<string, AgedGpu & { keepMs: number }>();
  const cut = new Set<string>();
  let hasNvidia: boolean | null = null;
  let nvidiaProblem: string | null = null;
  let hasAmd: boolean | null = null;
  let amdProblem: string | null = null;
  let wholeProcesses: GpuProcess[] | null = null;
  let migProcesses: GpuProcess[] = [];
  let processes: readonly GpuProcess[] | null = null;
  const firstRow = Promise.withResolvers<void>();
  const firstCut = Promise.withResolvers<void>();
  signal.addEventListener("abort", () => (firstRow.resolve(), firstCut.resolve()), { once: true });

  const join = () => (processes = wholeProcesses && [...wholeProcesses, ...migProcesses]);
  const put = (gpu: GpuSample, everyMs: number) => {
    const keepMs = Math.max(settings.forgetMs, 3 * everyMs);
    known.set(gpu.uuid, { gpu, at: performance.now(), keepMs });
  };
  const onRow = ({ gpu, mig }: GpuRow) => {
    if (mig) {
      cut.add(gpu.uuid);
      firstCut.resolve();
    } else cut.delete(gpu.uuid);
    if (!gpu.unified) put(gpu, loop.intervalMs);
    else
      void withMachineMemory(gpu, settings.memoryFile).then((full) => put(full, loop.intervalMs));
    firstRow.resolve();
  };
  const nvidia = startNvidiaLoop({
    path,
    settings: loop,
    onRow,
    onPresence: (present) => (hasNvidia = present),
    onProblem: (problem) => (nvidiaProblem = problem),
  });

  const asking = { timeoutMs: settings.toolTimeoutMs, path, signal, maxBytes: MAX_ANSWER_BYTES };
  const every = async (ms: number, work: () => Promise<void>) => {
    while (!signal.aborted) {
      await work();
      await sleep(ms, signal);
    }
  };
  const watchProcesses = async () => {
    // Without a GPU there is nothing to ask, and a tool that is being installed is found later.
    await firstRow.promise;
    await every(settings.processesMs, async () => {
      wholeProcesses = await computeProcesses(asking);
      join();
    });
  };
  const watchMig = async () => {
    await firstCut.promise;
    await every(settings.migMs, async () => {
      if (cut.size === 0) return;
      const list = await askTool(["nvidia-smi", "-L"], asking);
      const xml = await readTool(["nvidia-smi", "-q", "-x"], asking);
      // Old figures show their age, and go when they are too old.
      if (list.outcome !== "answered" || xml.outcome !== "answered") return;
      const reading = readMig(xml.text, readGpuList(list.lines));
      for (const gpu of reading.instances) put(gpu, settings.migMs);
      migProcesses = reading.processes;
      join();
    });
  };
  const watchAmd = () =>
    every(settings.amdMs, async () => {
      const gpus = await askAmd(asking);
      hasAmd = gpus !== null;
      if (gpus === null) return;
      amdProblem = typeof gpus === "string" ? gpus : null;
      if (typeof gpus === "string") return;
      for (const gpu of gpus) put(gpu, settings.amdMs);
      if (gpus.length > 0) firstRow.resolve();
    });
  const watching = Promise.all([watchProcesses(), watchMig(), watchAmd()]);

  return {
    read() {
      const now = performance.now();
      for (const [uuid, { at, keepMs }] of known) if (now - at > keepMs) known.delete(uuid);
      const gpus = [...known.values()].sort(byPlace);
      const nothing = hasNvidia === false && hasAmd === false ? NO_TOOL : null;
      return {
        gpus,
        problem: (hasNvidia === true ? nvidiaProblem : null) ?? amdProblem ?? nothing,
        processes,
      };
    },
    async processes() {
      const answers = [...known.values()].some(({ at }) => {
        return performance.now() - at <= 3 * Math.max(loop.intervalMs, settings.amdMs);
      });
      // Who waits for this wants to stop or start an engine: not to wait for a driver.
      if (!answers && nvidiaProblem !== null) return null;
      return computeProcesses({ ...asking, timeoutMs: settings.promptTimeoutMs });
    },
    async [Symbol.asyncDispose]() {
      stopping.abort();
      await Promise.all([nvidia[Symbol.asyncDispose](), watching]);
    },
  };
}

const NO_TOOL = "there is no nvidia-smi, amd-smi or rocm-smi on the PATH";

/** The GPUs, why they cannot be read, or null where there is no tool of AMD's. */
async function askAmd(asking: {
  timeoutMs: number;
  path: string | undefined;
  signal: AbortSignal;
}): Promise<GpuSample[] | string | null> {
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
    return gpus ?? "amd-smi answers in a form that this version does not know";
  }
  const answer = await readTool(["rocm-smi", ...ROCM_SMI_ARGS], asking);
  if (answer.outcome === "absent") return null;
  if (answer.outcome === "failed") return answer.reason;
  return readRocmSmi(answer.text) ?? "rocm-smi answers in a form that this version does not know";
}

/** Of a GPU that shares the machine's memory: its figures are the machine's. */
async function withMachineMemory(gpu: GpuSample, file: string): Promise<GpuSample> {
  const text = await readFile(file, "utf8").catch(() => "");
  const bytes = (name: string) => {
    const kib = new RegExp(`^${name}:\\s+(\\d+) kB$`, "m").exec(text)?.[1];
    return kib === undefined ? null : Number(kib) * 1024;
  };
  const [total, available] = [bytes("MemTotal"), bytes("MemAvailable")];
  const used = total !== null && available !== null ? total - available : null;
  return { ...gpu, memoryTotalBytes: total, memoryUsedBytes: used };
}

function byPlace({ gpu: a }: AgedGpu, { gpu: b }: AgedGpu): number {
  if (a.index !== b.index) return a.index - b.index;
  const rank = Number(a.migParent !== null) - Number(b.migParent !== null);
  return rank !== 0 ? rank : a.uuid < b.uuid ? -1 : 1;
}
