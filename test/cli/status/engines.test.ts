import { expect, test } from "bun:test";
import { processTable } from "../../../src/cli/status/engines.ts";
import { engine } from "./rows.ts";

test("what is known of processes is shown, unknown as unknown", () => {
  const engines = [
    engine("a/1", { pid: 4711, restarts: 2, adopted: true }),
    engine("b/1", { pid: null, container: "abc123" }),
    // Attached, or nothing runs.
    engine("d/1", { pid: null }),
  ];
  expect(processTable(engines)[1]).toEqual([
    ["a/1", "4711", "-", "2", "adopted"],
    ["b/1", "-", "abc123", "0", "by this worker"],
  ]);
});
