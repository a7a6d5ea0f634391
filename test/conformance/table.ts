/** The shape of the conformance table, and how its lines become tests. */

import { test } from "bun:test";
import type { Transport } from "./cluster.ts";

/** What a line needs that is not there yet. */
export type Need = "keys" | "stalls";

export interface Line {
  /** Its number in the conformance list. */
  line: number;
  /** Told after the number; lines with several cases have several entries. */
  title: string;
  /** Nothing: it is tested. */
  needs?: readonly Need[];
  /** Absent where something is needed. */
  run?: (transport: Transport) => Promise<void>;
  /** For lines that push bytes or wait for whole seconds. */
  timeoutMs?: number;
}

export function nameOf({ line, title }: Line): string {
  return `C${String(line).padStart(2, "0")} ${title}`;
}

/** Registers each line that can be tested, once for each transport. */
export function register(lines: readonly Line[], transports: readonly Transport[]): void {
  for (const entry of lines) {
    const { run } = entry;
    if (!run) continue;
    for (const transport of transports) {
      const name = `${nameOf(entry)} (${transport.name})`;
      test(name, () => run(transport), entry.timeoutMs ?? 30_000);
    }
  }
}
