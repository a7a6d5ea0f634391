import { expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import path from "node:path";
import { LlmnodeError } from "../../src/protocol/errors.ts";
import { FAST, startTestHead } from "../helpers/cluster.ts";
import { waitFor } from "../helpers/wait.ts";
import { SELF, sim, startTestWorker, tempDir } from "../helpers/worker.ts";
import { playing, printing, toolDir } from "../telemetry/fake-tools.ts";

const uuid = (index: number) => `GPU-d${index}000000-0000-0000-0000-000000000000`;
const MIB = 1024 ** 2;

interface Row {
  name: string;
  host: Record<string, unknown> | null;
  gpus: { uuid: string; engine_mem_bytes: number | null; age_ms: number }[];
  gpu_problem: string | null;
  engines: { gpu_uuids: string[]; pid: number | null; state: string }[];
}

/** The simulated engine behind a shell that says which GPUs it was shown. */
function telling(model: string): string[] {
  const script = 'echo "sees $CUDA_VISIBLE_DEVICES $CUDA_DEVICE_ORDER"; exec "$0" "$@"';
  return ["/bin/sh", "-c", script, ...SELF, ...sim("--model", model).slice(1)];
}

const telemetry = {
  host: { intervalMs: 100, slowMs: 200 },
  gpus: {
    loop: { intervalMs: 50, firstLineMs: 5000, silentMs: 5000, backoffFirstMs: 50 },
    processesMs: 50,
  },
};

test("two workers on a host of eight GPUs: each shows its own, and what its engine has of them", async () => {
  using tools = toolDir({
    gpus: playing("eight-h100.csv"),
    list: printing("eight-h100-list.txt"),
    apps: `/bin/cat "$(dirname "$0")/apps.csv"`,
  });
  const apps = (rows: string[]) =>
    writeFileSync(
      path.join(tools.path, "apps.csv"),
      ["gpu_uuid, pid, used_gpu_memory [MiB]", ...rows, ""].join("\n"),
    );
  apps([]);
  using data = tempDir();
  await using head = await startTestHead(FAST);
  const env = { ...process.env, PATH: `${tools.path}:${process.env["PATH"]}` };
  const start = (name: string, gpus: string | null) =>
    startTestWorker(head, data.path, {
      name,
      env,
      gpus,
      engine: { argv: telling(name) },
      settings: { telemetry },
    });
  await using a = await start("a", "0,1");
  await using b = await start("b", `${uuid(6)},${uuid(7)}`);
  await using c = await start("c", null);
  const rows = async () => (await head.status()).workers as unknown as Row[];
  const list = await waitFor(
    async () => {
      const now = await rows();
      const ready = now.every((row) => row.engines[0]?.state === "ready" && row.gpus.length > 0);
      return now.length === 3 && ready && now.every((row) => row.host !== null) ? now : null;
    },
    { what: "three workers with figures", timeoutMs: 25_000 },
  );
  expect(list.map((row) => row.gpus.map((gpu) => gpu.uuid))).toEqual([
    [uuid(0), uuid(1)],
    [uuid(6), uuid(7)],
    [0, 1, 2, 3, 4, 5, 6, 7].map(uuid),
  ]);
  expect(list.map((row) => row.engines[0]?.gpu_uuids)).toEqual([
    [uuid(0), uuid(1)],
    [uuid(6), uuid(7)],
    [],
  ]);
  expect(list.map((row) => row.gpu_problem)).toEqual([null, null, null]);
  await waitFor(() => a.output.includes("sees 0,1 PCI_BUS_ID"));
  await waitFor(() => b.output.includes(`sees ${uuid(6)},${uuid(7)} PCI_BUS_ID`));
  await waitFor(() => c.output.includes("sees  PCI_BUS_ID"));

  // The engines load their models: a on both of its GPUs, c on one that nobody gave it.
  const [pidA, , pidC] = list.map((row) => row.engines[0]?.pid);
  apps([
    `${uuid(0)}, ${pidA}, 1000 MiB`,
    `${uuid(1)}, ${pidA}, 2000 MiB`,
    `${uuid(4)}, ${pidC}, 3000 MiB`,
    `${uuid(5)}, 1, 4000 MiB`,
  ]);
  const memory = (row: Row | undefined) => row?.gpus.map((gpu) => gpu.engine_mem_bytes);
  const used = await waitFor(
    async () => {
      const now = await rows();
      return memory(now[0])?.[0] && memory(now[2])?.[4] ? now : null;
    },
    { what: "the engines' memory" },
  );
  expect(memory(used[0])).toEqual([1000 * MIB, 2000 * MIB]);
  expect(memory(used[1])).toEqual([null, null]);
  expect(memory(used[2])).toEqual([null, null, null, null, 3000 * MIB, null, null, null]);
});

test("a GPU that is not there is one clear line, and nothing is started", async () => {
  using tools = toolDir({ list: printing("eight-h100-list.txt") });
  using data = tempDir();
  await using head = await startTestHead(FAST);
  const error = await startTestWorker(head, data.path, {
    env: { ...process.env, PATH: `${tools.path}:${process.env["PATH"]}` },
    gpus: "0,8",
  }).then(
    () => null,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(LlmnodeError);
  expect((error as LlmnodeError).code).toBe("usage");
  expect((error as LlmnodeError).message).toBe("--gpus: this machine has no GPU 8");
});

test("nvidia-smi that hangs keeps no worker from joining, serving and leaving", async () => {
  using tools = toolDir({ gpus: "exec /bin/sleep 602", apps: "exec /bin/sleep 602" });
  using data = tempDir();
  await using head = await startTestHead(FAST);
  {
    await using worker = await startTestWorker(head, data.path, {
      env: { ...process.env, PATH: `${tools.path}:${process.env["PATH"]}` },
      settings: { telemetry: { gpus: { loop: { firstLineMs: 100, backoffFirstMs: 50 } } } },
    });
    await head.ready("m");
    const row = await waitFor(
      async () => {
        const [first] = (await head.status()).workers as unknown as Row[];
        return first?.gpu_problem ? first : null;
      },
      { what: "the reason" },
    );
    expect(row.gpu_problem).toBe("nvidia-smi gave no answer in 0.1s");
    expect(row.gpus).toEqual([]);
    await worker.worker.stop();
  }
});
