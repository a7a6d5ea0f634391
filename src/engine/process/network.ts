/** Finds out which process listens where on this machine, and refuses a port that is taken. */

import { networkInterfaces } from "node:os";
import { LlmnodeError } from "../../protocol/errors.ts";
import { formatHostPort, isLoopback } from "../../util/host-port.ts";
import { probeTcp } from "../../util/tcp.ts";
import { engineMarkOf, listeningPorts, processIds, processName, socketInodes } from "./proc.ts";

/** Most own addresses that are tried for reachability. */
const MAX_ADDRESSES = 4;

export interface PortOwner {
  pid: number;
  name: string;
  /** The engine that it belongs to if a worker started it. */
  engineId: string | null;
}

/** The hosts under which an engine may be reached from here when it listens on `host`. */
export function reachableHosts(host: string | null): string[] {
  const bare = host?.replace(/^\[|\]$/g, "") ?? "";
  if (["", "*", "0.0.0.0", "::", "localhost"].includes(bare)) return ["127.0.0.1", "::1"];
  return [bare];
}

/** This machine's addresses that others may reach, IPv4 first, at most four. */
export function ownAddresses(interfaces = networkInterfaces()): string[] {
  const all = Object.values(interfaces).flatMap((list) => list ?? []);
  const usable = all.filter((entry) => !entry.internal && !/^fe80:/i.test(entry.address));
  const ipv4 = usable.filter((entry) => entry.family === "IPv4");
  const ipv6 = usable.filter((entry) => entry.family !== "IPv4");
  return [...ipv4, ...ipv6].slice(0, MAX_ADDRESSES).map((entry) => entry.address);
}

/** Whether none of this machine's other addresses accepts connections. Null: it has none. */
export async function isLoopbackOnly(
  host: string,
  port: number,
  options: { addresses?: readonly string[]; timeoutMs: number },
): Promise<boolean | null> {
  if (!isLoopback(host)) return false;
  const { timeoutMs, addresses = ownAddresses() } = options;
  if (addresses.length === 0) return null;
  const failures = await Promise.all(
    addresses.map((address) => probeTcp({ host: address, port }, timeoutMs)),
  );
  return !failures.includes(null);
}

/** The process that listens on a port; null if none does or we may not see it. */
export async function portOwner(port: number): Promise<PortOwner | null> {
  const inodes = new Set<string>();
  for (const [inode, listening] of await listeningPorts()) {
    if (listening === port) inodes.add(inode);
  }
  if (inodes.size === 0) return null;
  for (const pid of await processIds()) {
    if (!(await socketInodes(pid)).some((inode) => inodes.has(inode))) continue;
    const name = (await processName(pid)) ?? "?";
    return { pid, name, engineId: await engineMarkOf(pid) };
  }
  return null;
}

/** The ports on which any of these processes listens, lowest first. */
export async function portsOf(pids: readonly number[]): Promise<number[]> {
  const listening = await listeningPorts();
  const ports = new Set<number>();
  for (const pid of pids) {
    for (const inode of await socketInodes(pid)) {
      const port = listening.get(inode);
      if (port !== undefined) ports.add(port);
    }
  }
  return [...ports].sort((a, b) => a - b);
}

/**
 * Throws LlmnodeError `port_in_use`, with the owner where the system tells, if something accepts
 * connections on `port` at 127.0.0.1 or at the host that the command names: the engine could not
 * have it, and the other program's answers would be taken for the engine's.
 */
export async function refuseTakenPort(
  port: number,
  options: { host: string | null; engineId: string; timeoutMs: number },
): Promise<void> {
  for (const host of new Set(["127.0.0.1", ...reachableHosts(options.host)])) {
    if ((await probeTcp({ host, port }, options.timeoutMs)) !== null) continue;
    const owner = await portOwner(port);
    const by = owner === null ? "another program" : describeOwner(owner, options.engineId);
    const url = `http://${formatHostPort({ host, port })}`;
    const hints = [
      "give the engine another port, or say with --port which one it will use",
      `to serve what already runs there: --attach ${url}`,
    ];
    if (owner !== null) hints.push(`to end what runs there: kill ${owner.pid}`);
    throw new LlmnodeError("port_in_use", `port ${port} is already in use by ${by}`, { hints });
  }
}

function describeOwner({ pid, name, engineId }: PortOwner, ownId: string): string {
  const program = `${name} (pid ${pid})`;
  if (engineId === null) return program;
  if (engineId === ownId) return `${program}, left over from an earlier run of this worker`;
  return `${program}, the engine of worker ${engineId}`;
}
