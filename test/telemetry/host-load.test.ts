import { expect, test } from "bun:test";
import path from "node:path";
import { modelCacheDir, networkRates, startHostLoad } from "../../src/telemetry/host-load.ts";
import { machineMemory, readProc } from "../../src/telemetry/machine.ts";
import { memoryLog } from "../helpers/cluster.ts";
import { tempDir } from "../helpers/temp.ts";
import { waitFor } from "../helpers/wait.ts";

test("CPU, memory, disk and network of this machine, once they are known", async () => {
  using dir = tempDir();
  const { log, lines } = memoryLog();
  using host = startHostLoad({
    // Not there yet: the disk that it will be on is.
    cacheDir: path.join(dir.path, "not", "yet"),
    log,
    settings: { intervalMs: 50, slowMs: 100 },
  });
  expect(host.read()).toBeNull();
  const load = await waitFor(
    () => {
      const now = host.read();
      return now?.cpuPercent !== null && now?.diskFreeBytes !== null ? now : null;
    },
    { what: "all that does not need a network" },
  );
  expect(load.cpuPercent).toBeGreaterThanOrEqual(0);
  expect(load.cpuPercent).toBeLessThanOrEqual(100);
  expect(load.memoryBytes).toBeGreaterThan(load.memoryUsedBytes ?? Number.POSITIVE_INFINITY);
  expect(load.diskFreeBytes).toBeGreaterThan(0);
  const { at } = load;
  await waitFor(() => (host.read()?.at ?? 0) > at, { what: "a newer reading" });
  expect(lines).toEqual([]);
});

test("network rates: outer links only, unknown until two looks", () => {
  const link = (iface: string, rx_sec: number | null, tx_sec: number | null) =>
    ({ iface, rx_sec, tx_sec }) as never;
  expect(networkRates([link("eth0", null, null)])).toEqual({
    netRxBytesPerS: null,
    netTxBytesPerS: null,
  });
  expect(
    networkRates([
      link("lo", 1000, 1000),
      link("docker0", 50, 50),
      link("veth12", 50, 50),
      link("eth0", 10, 0),
      link("ib0", 5, 7),
      link("wlan0", Number.NaN, -1),
    ]),
  ).toEqual({ netRxBytesPerS: 15, netTxBytesPerS: 7 });
  expect(networkRates([])).toEqual({ netRxBytesPerS: null, netTxBytesPerS: null });
});

test("CPU, memory and links from /proc: of the time and the bytes between two readings", async () => {
  using dir = tempDir();
  const put = (name: string, text: string) => Bun.write(path.join(dir.path, name), text);
  const dev = (...lines: string[]) =>
    put("net/dev", ["Inter-|   Receive", " face |bytes", ...lines, ""].join("\n"));
  await put("meminfo", "MemTotal:       1000 kB\nMemFree:         1 kB\nMemAvailable:    250 kB\n");
  await put("stat", "cpu  100 0 100 700 100 0 0 0 50 0\ncpu0 100 0 100 700 100 0 0 0 50 0\n");
  await dev(
    "    lo: 7 1 0 0 0 0 0 0 7 1 0 0 0 0 0 0",
    "  eth0:1000 9 0 0 0 0 0 0 500 9 0 0 0 0 0 0",
  );
  const machine = readProc(dir.path);
  const memory = { memoryBytes: 1_024_000, memoryUsedBytes: 768_000 };
  expect(await machine.load()).toEqual({ cpuPercent: null, ...memory });
  const eth0 = async () => (await machine.links()).find(({ iface }) => iface === "eth0");
  expect(await eth0()).toEqual({ iface: "eth0", rx_sec: null, tx_sec: null });

  // 30 of 40 ticks were busy; what guests had is in the user's.
  await put("stat", "cpu  115 5 105 705 105 1 2 2 60 0\n");
  await dev("  eth0:51000 99 0 0 0 0 0 0 400 9 0 0 0 0 0 0");
  expect(await machine.load()).toEqual({ cpuPercent: 75, ...memory });
  await Bun.sleep(5);
  const rates = await eth0();
  expect(rates?.rx_sec).toBeGreaterThan(0);
  // Less than before: the link was set up anew.
  expect(rates?.tx_sec).toBeNull();
  expect((await machine.load()).cpuPercent).toBeNull();
});

test("memory that the kernel does not tell is unknown", () => {
  expect(machineMemory("MemTotal: 10 kB\n")).toEqual({
    memoryBytes: 10_240,
    memoryUsedBytes: null,
  });
  expect(machineMemory("")).toEqual({ memoryBytes: null, memoryUsedBytes: null });
});

test("the model cache as Hugging Face's library finds it", () => {
  expect(modelCacheDir({ HOME: "/home/u" })).toBe("/home/u/.cache/huggingface");
  expect(modelCacheDir({ HOME: "/home/u", XDG_CACHE_HOME: "/c" })).toBe("/c/huggingface");
  expect(modelCacheDir({ HOME: "/home/u", HF_HOME: "/data/hf" })).toBe("/data/hf");
  expect(modelCacheDir({ HF_HOME: "/data/hf", HF_HUB_CACHE: "/hub" })).toBe("/hub");
});
