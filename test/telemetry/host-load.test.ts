import { expect, test } from "bun:test";
import path from "node:path";
import { modelCacheDir, networkRates, startHostLoad } from "../../src/telemetry/host-load.ts";
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

test("the model cache as Hugging Face's library finds it", () => {
  expect(modelCacheDir({ HOME: "/home/u" })).toBe("/home/u/.cache/huggingface");
  expect(modelCacheDir({ HOME: "/home/u", XDG_CACHE_HOME: "/c" })).toBe("/c/huggingface");
  expect(modelCacheDir({ HOME: "/home/u", HF_HOME: "/data/hf" })).toBe("/data/hf");
  expect(modelCacheDir({ HF_HOME: "/data/hf", HF_HUB_CACHE: "/hub" })).toBe("/hub");
});
