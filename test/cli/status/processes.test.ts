import { expect, test } from "bun:test";
import { processTable, readProcess } from "../../../src/cli/status/processes.ts";

test("what is known of processes is shown, unknown as unknown", () => {
  const engine = (id: string, json: Record<string, unknown>) => ({
    id,
    process: readProcess(json),
  });
  const engines = [
    engine("a/1", { pid: 4711, restarts: 2, adopted: true, container: null }),
    engine("b/1", { pid: null, container: "abc123", adopted: false, restarts: 0 }),
    engine("c/1", { pid: 7, adopted: "yes", restarts: "many" }),
    // Attached, or nothing runs.
    engine("d/1", {}),
  ];
  expect(processTable(engines)[1]).toEqual([
    ["a/1", "4711", "-", "2", "adopted"],
    ["b/1", "-", "abc123", "0", "by this worker"],
    ["c/1", "7", "-", "?", "by this worker"],
  ]);
});
