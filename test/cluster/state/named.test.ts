import { expect, test } from "bun:test";
import { findWorker, workerMeant, workerNamed } from "../../../src/cluster/state/named.ts";
import type { ClusterState, Worker } from "../../../src/cluster/state/state.ts";

function cluster(names: Record<string, string>): ClusterState {
  const workers = Object.entries(names).map(([id, name]) => ({ id, name }) as Worker);
  return { workers: new Map(workers.map((worker) => [worker.id, worker])) } as ClusterState;
}

const state = cluster({ abcd1111: "gpu-1", abcd2222: "gpu-2", "gpu-2": "gpu-3" });

test("a worker is found by its whole name, or else by its whole id", () => {
  expect(findWorker(state, "gpu-1")?.id).toBe("abcd1111");
  expect(findWorker(state, "abcd2222")?.name).toBe("gpu-2");
  // A name wins over another worker's id.
  expect(findWorker(state, "gpu-2")?.name).toBe("gpu-2");
  for (const word of ["", "gpu", "abcd", "abcd111"]) expect(findWorker(state, word)).toBeNull();
});

test("acting on a worker takes a whole name; the error says which one there is not", () => {
  expect(workerNamed(state, "gpu-1").name).toBe("gpu-1");
  expect(() => workerNamed(state, "abcd1")).toThrow(
    expect.objectContaining({ code: "worker_not_found", subject: "abcd1" }),
  );
});

test("looking at one takes the beginning of an id too, unless it begins several", () => {
  expect(workerMeant(state, "abcd1").name).toBe("gpu-1");
  for (const word of ["abc", "gpu-9", ""]) {
    expect(() => workerMeant(state, word)).toThrow(
      expect.objectContaining({ code: "worker_not_found", subject: word }),
    );
  }
  expect(() => workerMeant(state, "abcd")).toThrow(
    expect.objectContaining({
      code: "refused",
      message: "abcd is the beginning of several workers' ids: gpu-1, gpu-2",
    }),
  );
});
