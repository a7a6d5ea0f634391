/** The ports of a container and where they are reached from this machine. */

import type { HostPort } from "../../../util/host-port.ts";

export interface Publish {
  /** The address on this machine; null: all of them. */
  hostIp: string | null;
  /** Null: any free one, known once the container runs. */
  hostPort: number | null;
  containerPort: number;
}

/** Ranges are expanded up to this many ports. */
const MAX_RANGE = 64;

/**
 * Reads one value of `-p`: `80`, `8080:80`, `127.0.0.1:8080:80`, `127.0.0.1::80`, `[::1]:8080:80`,
 * `8000-8002:8000-8002`, each with `/tcp` if any. Other protocols and what cannot be read: none.
 */
export function readPublish(value: string): Publish[] {
  const [ports = "", protocol = "tcp"] = value.split("/");
  if (protocol.toLowerCase() !== "tcp") return [];
  const match = /^(?:(\[[^\]]*\]|[^:]*):)?(?:([\d-]*):)?([\d-]+)$/.exec(ports);
  if (!match) return [];
  const [, first, second, inner = ""] = match;
  const isLone = second === undefined && /^[\d-]*$/.test(first ?? "");
  const hostIp = isLone ? null : (first?.replace(/^\[|\]$/g, "") ?? null);
  const inside = readRange(inner);
  const outside = readRange((isLone ? first : second) ?? "");
  return inside.map((containerPort, i) => ({
    hostIp: hostIp === "" ? null : hostIp,
    // A range outside for one port inside: any of them.
    hostPort: outside.length === inside.length ? (outside[i] ?? null) : null,
    containerPort,
  }));
}

/**
 * Where `containerPort` is published, as far as the command tells; with null for the port, the
 * only port that is published. Null: not published, or on a port that only the tool knows.
 */
export function publishedAt(
  publish: readonly Publish[],
  containerPort: number | null,
): HostPort | null {
  const only = publish.length === 1 ? publish[0] : undefined;
  const entry =
    containerPort === null ? only : publish.find((each) => each.containerPort === containerPort);
  return entry?.hostPort ? { host: entry.hostIp ?? "0.0.0.0", port: entry.hostPort } : null;
}

function readRange(text: string): number[] {
  const match = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(text);
  if (!match) return [];
  const from = Number(match[1]);
  const to = Number(match[2] ?? match[1]);
  if (to < from || to > 65535) return [];
  return Array.from({ length: Math.min(MAX_RANGE, to - from + 1) }, (_, i) => from + i);
}
