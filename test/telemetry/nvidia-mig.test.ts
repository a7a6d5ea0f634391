import { expect, test } from "bun:test";
import fc from "fast-check";
import { readGpuList, readMig } from "../../src/telemetry/nvidia-mig.ts";
import { fixture } from "./fake-tools.ts";

const MIB = 1024 ** 2;
const list = readGpuList(fixture("h100-mig-list.txt").split("\n"));
const parent = "GPU-00000000-0000-0000-0000-000000000001";

test("the list names GPUs and the instances below them", () => {
  expect(list.map(({ uuid, index, migParent }) => [uuid, index, migParent])).toEqual([
    [parent, 0, null],
    ["MIG-00000000-0000-0000-0000-000000000000", 0, parent],
    ["MIG-00000001-0000-0000-0000-000000000001", 0, parent],
    ["MIG-00000002-0000-0000-0000-000000000002", 0, parent],
  ]);
  expect(list[1]?.name).toBe("NVIDIA H100 80GB HBM3 MIG 3g.40gb");
  expect(readGpuList(fixture("eight-h100-list.txt").split("\n"))).toHaveLength(8);
  expect(readGpuList(["No devices found.", "MIG 1g Device 0: (UUID: MIG-1)"])).toEqual([]);
});

test("memory by instance, utilisation unknown; one without a name is left out", () => {
  const { instances } = readMig(fixture("h100-mig.xml"), list);
  expect(
    instances.map((gpu) => [gpu.uuid, gpu.memoryUsedBytes, gpu.memoryTotalBytes, gpu.migParent]),
  ).toEqual([
    ["MIG-00000000-0000-0000-0000-000000000000", 11_091 * MIB, 40_448 * MIB, parent],
    ["MIG-00000001-0000-0000-0000-000000000001", 17 * MIB, 20_096 * MIB, parent],
    ["MIG-00000002-0000-0000-0000-000000000002", null, 9984 * MIB, parent],
  ]);
  expect(instances.every(({ utilizationPercent }) => utilizationPercent === null)).toBe(true);
});

test("processes by instance", () => {
  expect(readMig(fixture("h100-mig.xml"), list).processes).toEqual([
    { pid: 21_180, gpu: "MIG-00000000-0000-0000-0000-000000000000", memoryBytes: 2296 * MIB },
    { pid: 21_198, gpu: "MIG-00000000-0000-0000-0000-000000000000", memoryBytes: 7484 * MIB },
    { pid: 300, gpu: "MIG-00000002-0000-0000-0000-000000000002", memoryBytes: null },
  ]);
});

test("an answer cut off anywhere, or none, breaks nothing", () => {
  const xml = fixture("h100-mig.xml");
  fc.assert(
    fc.property(fc.integer({ min: 0, max: xml.length }), (end) => {
      const { instances } = readMig(xml.slice(0, end), list);
      expect(instances.length).toBeLessThanOrEqual(3);
    }),
  );
  expect(readMig("no xml at all", list)).toEqual({ instances: [], processes: [] });
});
