/** Folders that go away with the test. */

import { mkdtempSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";

export interface TempDir extends Disposable {
  readonly path: string;
}

export function tempDir(): TempDir {
  const dir = mkdtempSync(path.join(os.tmpdir(), "llmnode-test-"));
  return { path: dir, [Symbol.dispose]: () => rmSync(dir, { recursive: true, force: true }) };
}
