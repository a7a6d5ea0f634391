/** Facts about this machine that do not change while it is up. */

import { readFileSync, readlinkSync } from "node:fs";
import os from "node:os";

export interface HostFacts {
  hostname: string;
  os: string;
  arch: string;
  cpus: number;
  memoryBytes: number;
  /** Names this boot of the kernel; empty where the system does not show it. */
  bootId: string;
  /** Names the network namespace of this process; empty where there are none. */
  networkNamespace: string;
  /** Names the installation; the hostname where the system has no machine id. */
  machineId: string;
}

/** Never throws: what cannot be read is an empty string. */
export function readHostFacts(): HostFacts {
  const hostname = os.hostname();
  return {
    hostname,
    os: process.platform,
    arch: process.arch,
    cpus: os.availableParallelism(),
    memoryBytes: os.totalmem(),
    bootId: firstLine("/proc/sys/kernel/random/boot_id"),
    networkNamespace: link("/proc/self/ns/net"),
    machineId: firstLine("/etc/machine-id") || firstLine("/var/lib/dbus/machine-id") || hostname,
  };
}

function firstLine(path: string): string {
  try {
    return readFileSync(path, "utf8").split("\n", 1)[0]?.trim() ?? "";
  } catch {
    return "";
  }
}

function link(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return "";
  }
}
