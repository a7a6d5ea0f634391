/** Reads what `inspect` tells about containers; the same shape in docker, podman and nerdctl. */

import type { HostPort } from "../../util/host-port.ts";
import { fieldsIn, parseJson } from "../../util/json.ts";

export interface ContainerInfo {
  id: string;
  /** Without the slash that docker puts before it. */
  name: string;
  /** `created`, `running`, `paused`, `restarting`, `exited`, `dead`, `removing`. */
  status: string;
  /** Its first process as this machine's kernel counts; 0 while there is none. */
  pid: number;
  exitCode: number;
  /** Whether the kernel ended it for want of memory; null: the tool does not tell. */
  oomKilled: boolean | null;
  /** What the daemon says about a start or an end that failed; empty: nothing. */
  error: string;
  labels: Readonly<Record<string, string>>;
  networkMode: string;
  /** Where ports of the container are reached from this machine; TCP only. */
  published: ReadonlyArray<{ containerPort: number; at: HostPort }>;
  /** Its own addresses in container networks. */
  addresses: readonly string[];
  /** TCP ports that its image or its command declares. */
  exposed: readonly number[];
}

/** The containers in the JSON of `inspect`; entries that cannot be read are left out. */
export function readInspect(json: string): ContainerInfo[] {
  // Cut off, or a message in words: nothing is known then.
  const parsed = parseJson(json);
  return Array.isArray(parsed) ? parsed.flatMap(readOne) : [];
}

/** Whether it may still do anything, now or without being started by somebody. */
export function isAlive({ status }: ContainerInfo): boolean {
  return ["running", "paused", "restarting", "stopping"].includes(status);
}

/**
 * Where the container may answer: at the published ports, else at its own addresses, in a
 * network that it shares at the port itself. `containerPort` null: any port that is published.
 */
export function addressesOf(info: ContainerInfo, containerPort: number | null): HostPort[] {
  const { published, networkMode, addresses, exposed } = info;
  if (networkMode === "host") {
    return containerPort === null ? [] : [{ host: "127.0.0.1", port: containerPort }];
  }
  const wanted = published.filter((entry) => entry.containerPort === containerPort);
  // A port that was guessed wrong or changed inside: whatever else is published may be it.
  const fits = wanted.length > 0 ? wanted : published;
  if (fits.length > 0) return fits.map((entry) => entry.at);
  const ports = containerPort === null ? exposed : [containerPort];
  return addresses.flatMap((host) => ports.map((port) => ({ host, port })));
}

export function hasAddress({ networkMode, published, addresses }: ContainerInfo): boolean {
  return published.length > 0 || addresses.length > 0 || networkMode === "host";
}

function readOne(value: unknown): ContainerInfo[] {
  const id = text(field(value, "Id"));
  if (id === "") return [];
  const state = field(value, "State");
  const network = field(value, "NetworkSettings");
  const config = field(value, "Config");
  return [
    {
      id,
      name: text(field(value, "Name")).replace(/^\//, ""),
      status: text(field(state, "Status")).toLowerCase(),
      pid: number(field(state, "Pid")),
      exitCode: number(field(state, "ExitCode")),
      oomKilled: flag(field(state, "OOMKilled")),
      error: text(field(state, "Error")),
      labels: textRecord(field(config, "Labels")),
      networkMode: text(field(field(value, "HostConfig"), "NetworkMode")),
      published: readPorts(field(network, "Ports")),
      addresses: readAddresses(network),
      exposed: Object.keys(fieldsIn(field(config, "ExposedPorts"))).flatMap(tcpPort),
    },
  ];
}

function readPorts(ports: unknown): ContainerInfo["published"] {
  const found: Array<{ containerPort: number; at: HostPort }> = [];
  for (const [name, bindings] of Object.entries(fieldsIn(ports))) {
    const containerPort = tcpPort(name)[0];
    if (containerPort === undefined || !Array.isArray(bindings)) continue;
    for (const binding of bindings as unknown[]) {
      const port = Number(text(field(binding, "HostPort")));
      if (!Number.isInteger(port) || port < 1 || port > 65535) continue;
      const at = { host: reachable(text(field(binding, "HostIp"))), port };
      const isKnown = found.some((entry) => entry.at.host === at.host && entry.at.port === at.port);
      if (!isKnown) found.push({ containerPort, at });
    }
  }
  return found;
}

/** Published on all addresses: docker takes them on loopback too, in IPv4 at least. */
function reachable(hostIp: string): string {
  return ["", "0.0.0.0", "::"].includes(hostIp) ? "127.0.0.1" : hostIp;
}

function readAddresses(network: unknown): string[] {
  const networks = Object.values(fieldsIn(field(network, "Networks")));
  const all = [network, ...networks].map((entry) => text(field(entry, "IPAddress")));
  return [...new Set(all.filter((address) => address !== ""))];
}

function tcpPort(name: string): number[] {
  const match = /^(\d{1,5})(?:\/tcp)?$/.exec(name);
  return match ? [Number(match[1])] : [];
}

function field(value: unknown, name: string): unknown {
  const fields = fieldsIn(value);
  return Object.hasOwn(fields, name) ? fields[name] : undefined;
}

function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}

function flag(value: unknown): boolean | null {
  return typeof value === "boolean" ? value : null;
}

function number(value: unknown): number {
  return typeof value === "number" && Number.isFinite(value) ? value : 0;
}

function textRecord(value: unknown): Record<string, string> {
  const entries = Object.entries(fieldsIn(value));
  return Object.fromEntries(entries.map(([name, entry]) => [name, text(entry)]));
}
