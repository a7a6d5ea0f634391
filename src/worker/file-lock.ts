/** A lock that the kernel lets go of when its process ends, however it ends: flock(2). */

import { dlopen, FFIType } from "bun:ffi";
import { closeSync, openSync } from "node:fs";

const LOCK_EX = 2;
const LOCK_NB = 4;

/** C libraries by platform, as their loaders name them. */
const LIBRARIES: Partial<Record<NodeJS.Platform, string[]>> = {
  linux: ["libc.so.6", `libc.musl-${process.arch === "arm64" ? "aarch64" : "x86_64"}.so.1`],
  darwin: ["libSystem.B.dylib"],
};

export interface FileLock extends Disposable {
  readonly fd: number;
}

/**
 * Takes the lock on a file, which is made if it is not there; null when another process has it.
 * Children do not inherit it. Throws a system error when the file cannot be opened.
 */
export function tryLock(path: string): FileLock | null {
  const fd = openSync(path, "a+", 0o600);
  if (flock(fd) !== 0) {
    closeSync(fd);
    return null;
  }
  let held = true;
  return {
    fd,
    [Symbol.dispose]() {
      if (!held) return;
      held = false;
      closeSync(fd);
    },
  };
}

function flock(fd: number): number {
  const names = LIBRARIES[process.platform] ?? [];
  for (const [index, name] of names.entries()) {
    try {
      const library = dlopen(name, {
        flock: { args: [FFIType.i32, FFIType.i32], returns: FFIType.i32 },
      });
      const result = library.symbols.flock(fd, LOCK_EX | LOCK_NB);
      library.close();
      return result;
    } catch (error) {
      if (index === names.length - 1) throw error;
    }
  }
  throw new Error(`file locks are not known on ${process.platform}`);
}
