/** Where a fuzzing process writes which round it is in, so that another one can tell when it dies. */

import { closeSync, ftruncateSync, openSync } from "node:fs";

export interface Round {
  /** Counts all rounds of the process. */
  count: number;
  /** The place of the fuzzer in the list. */
  fuzzer: number;
  seed: number;
}

const FIELDS = 3;

export interface Note {
  write(round: Round): void;
  read(): Round;
}

/** Memory that is shared by way of `file`: it outlives a crash of its writer at any point. */
export function openNote(file: string): Note {
  const fd = openSync(file, "a+", 0o600);
  ftruncateSync(fd, FIELDS * Uint32Array.BYTES_PER_ELEMENT);
  closeSync(fd);
  const bytes = Bun.mmap(file, { shared: true });
  const fields = new Uint32Array(bytes.buffer, bytes.byteOffset, FIELDS);
  return {
    write({ count, fuzzer, seed }) {
      fields[1] = fuzzer;
      fields[2] = seed;
      fields[0] = count;
    },
    read: () => ({ count: fields[0] ?? 0, fuzzer: fields[1] ?? 0, seed: fields[2] ?? 0 }),
  };
}
