/** Requests that wait for a replica: bounded per model, fair between those who ask. */

import type { ReplicaRequest } from "../../protocol/replica-request.ts";

export const QUEUE_LIMITS = {
  /** Requests that may wait for one model, and the bytes of their bodies. */
  maxWaiting: 256,
  maxWaitingBytes: 64 * 1024 * 1024,
  /** Requests that may wait in all: names of models come from clients. */
  maxWaitingInAll: 16_384,
};
export type QueueLimits = typeof QUEUE_LIMITS;

export interface Waiter {
  readonly id: number;
  readonly request: ReplicaRequest;
  /** Since when it waits. Written where all deadlines are moved. */
  since: number;
  /** What it waits for: a model, a service, a worker's share of them. */
  readonly group: string;
  /** Two of the same kind in the same group can have the same replicas. */
  readonly kind: string;
}

export interface Group {
  readonly request: ReplicaRequest;
  /** By caller, in the order in which they are served next; each first come, first served. */
  lines: Map<string, Waiter[]>;
  /** How many there are of each kind. */
  kinds: Map<string, number>;
  size: number;
  bytes: number;
}

export interface Queue {
  groups: Map<string, Group>;
  size: number;
  nextId: number;
}

export function newQueue(): Queue {
  return { groups: new Map(), size: 0, nextId: 1 };
}

/** Whether others wait for the same: then no request goes past them. */
export function hasWaiting({ size, groups }: Queue, request: ReplicaRequest): boolean {
  return size > 0 && groups.has(groupOf(request));
}

/** Puts a request into its line. `shed`: who has to leave for that, which may be the newcomer. */
export function enter(
  queue: Queue,
  request: ReplicaRequest,
  at: { now: number; limits: QueueLimits },
): { waiter: Waiter; shed: Waiter[] } {
  const key = groupOf(request);
  const waiter: Waiter = {
    id: queue.nextId,
    request,
    since: at.now,
    group: key,
    kind: JSON.stringify([
      request.kinds,
      request.engineRun,
      request.minContext,
      request.exclude,
      request.fallbacks,
      request.oneModel,
    ]),
  };
  queue.nextId += 1;
  const group: Group = queue.groups.get(key) ?? {
    request,
    lines: new Map(),
    kinds: new Map(),
    size: 0,
    bytes: 0,
  };
  queue.groups.set(key, group);
  const line = group.lines.get(request.caller);
  if (line) line.push(waiter);
  else group.lines.set(request.caller, [waiter]);
  group.kinds.set(waiter.kind, (group.kinds.get(waiter.kind) ?? 0) + 1);
  group.size += 1;
  group.bytes += request.bodyBytes;
  queue.size += 1;
  return { waiter, shed: shedFrom(queue, { group, newcomer: waiter, limits: at.limits }) };
}

/** Takes a request out, wherever it is; false when it has gone already. */
export function leave(queue: Queue, waiter: Waiter): boolean {
  const group = queue.groups.get(waiter.group);
  const line = group?.lines.get(waiter.request.caller);
  const place = line?.indexOf(waiter) ?? -1;
  if (!group || !line || place < 0) return false;
  line.splice(place, 1);
  if (line.length === 0) group.lines.delete(waiter.request.caller);
  const alike = (group.kinds.get(waiter.kind) ?? 1) - 1;
  if (alike === 0) group.kinds.delete(waiter.kind);
  else group.kinds.set(waiter.kind, alike);
  group.size -= 1;
  group.bytes -= waiter.request.bodyBytes;
  queue.size -= 1;
  if (group.size === 0) queue.groups.delete(waiter.group);
  return true;
}

/**
 * Serves those who wait, one of each caller in turn, as long as `take` has something for them; it
 * answers whether the waiter is settled. Who cannot be served holds up only those of its kind.
 */
export function serve(queue: Queue, take: (waiter: Waiter) => boolean): void {
  // A group that is served goes to the end: several may wait for the same engines.
  for (const [key, group] of [...queue.groups]) {
    if (!serveGroup(queue, group, take)) continue;
    if (queue.groups.delete(key) && group.size > 0) queue.groups.set(key, group);
  }
}

function serveGroup(queue: Queue, group: Group, take: (waiter: Waiter) => boolean): boolean {
  const inVain = new Set<string>();
  let served = false;
  let passed = 0;
  while (passed < group.lines.size) {
    const next = group.lines.entries().next().value;
    if (next === undefined) break;
    const [caller, line] = next;
    const waiter = line.find(({ kind }) => !inVain.has(kind));
    if (waiter === undefined) {
      passed += 1;
      toTheEnd(group, caller);
    } else if (take(waiter)) {
      served = true;
      passed = 0;
      leave(queue, waiter);
      toTheEnd(group, caller);
    } else {
      inVain.add(waiter.kind);
      if (inVain.size >= group.kinds.size) break;
    }
  }
  return served;
}

function toTheEnd({ lines }: Group, caller: string): void {
  const line = lines.get(caller);
  if (line === undefined) return;
  lines.delete(caller);
  lines.set(caller, line);
}

/** How many wait for each model or service; those that wait for any model are under "". */
export function queueDepths({ groups }: Queue): Map<string, number> {
  const depths = new Map<string, number>();
  for (const { request, size } of groups.values()) {
    const name = request.service ?? request.model ?? "";
    depths.set(name, (depths.get(name) ?? 0) + size);
  }
  return depths;
}

export function* waiters({ groups }: Queue): Generator<Waiter> {
  for (const { lines } of groups.values()) for (const line of lines.values()) yield* line;
}

function groupOf({ service, model, worker }: ReplicaRequest): string {
  return JSON.stringify([service, model, worker]);
}

/** The newest of who takes the most room: one who asks for much is not to push others out. */
function shedFrom(
  queue: Queue,
  at: { group: Group; newcomer: Waiter; limits: QueueLimits },
): Waiter[] {
  const { group, newcomer, limits } = at;
  const shed: Waiter[] = [];
  const shedBy = (sizeOf: (line: readonly Waiter[]) => number) => {
    let largest = group.lines.get(newcomer.request.caller) ?? [];
    for (const line of group.lines.values()) if (sizeOf(line) > sizeOf(largest)) largest = line;
    const last = largest.at(-1);
    if (last === undefined || !leave(queue, last)) return false;
    shed.push(last);
    return true;
  };
  const inAll = Math.max(limits.maxWaiting, limits.maxWaitingInAll);
  while (group.size > limits.maxWaiting || queue.size > inAll) {
    if (!shedBy((line) => line.length)) break;
  }
  // A body that is larger than all of the room waits alone.
  while (group.size > 1 && group.bytes > limits.maxWaitingBytes) {
    if (!shedBy((line) => line.reduce((sum, { request }) => sum + request.bodyBytes, 0))) break;
  }
  return shed;
}
