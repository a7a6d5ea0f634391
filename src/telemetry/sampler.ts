/** Measures this machine for as long as a worker runs. */

import type { Log } from "../util/log.ts";
import type { GpuProcess } from "./gpu.ts";
import { type GpuReading, type GpuSettings, startGpus } from "./gpus.ts";
import { type HostLoad, type HostSettings, modelCacheDir, startHostLoad } from "./host-load.ts";

export interface Telemetry extends AsyncDisposable {
  /** The latest figures, each with the time of its reading. */
  read(): { host: HostLoad | null } & GpuReading;
  /** What runs on the GPUs now; null where that is not known. */
  computeProcesses(): Promise<GpuProcess[] | null>;
}

export interface TelemetryOptions {
  env: Record<string, string | undefined>;
  log: Log;
  settings?: TelemetrySettings;
}

export interface TelemetrySettings {
  host?: Partial<HostSettings>;
  gpus?: Partial<GpuSettings>;
}

/** Never throws: what cannot be measured is unknown, with a reason. */
export function startTelemetry({ env, log, settings = {} }: TelemetryOptions): Telemetry {
  const host = startHostLoad({
    cacheDir: modelCacheDir(env),
    log,
    ...(settings.host && { settings: settings.host }),
  });
  const gpus = startGpus({ path: env["PATH"], ...(settings.gpus && { settings: settings.gpus }) });
  return {
    read: () => ({ host: host.read(), ...gpus.read() }),
    computeProcesses: gpus.processes,
    async [Symbol.asyncDispose]() {
      host[Symbol.dispose]();
      await gpus[Symbol.asyncDispose]();
    },
  };
}
