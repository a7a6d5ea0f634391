import { expect, test } from "bun:test";
import { readEngineArgv } from "../../../src/engine/argv/argv.ts";
import {
  type GpuPin,
  type MachineGpu,
  parseGpus,
  pinGpus,
} from "../../../src/engine/argv/gpu-pin.ts";
import { LlmnodeError } from "../../../src/protocol/errors.ts";
import { memoryLog } from "../../helpers/cluster.ts";

function gpu(index: number, more: Partial<MachineGpu> = {}): MachineGpu {
  const uuid = `GPU-${index}aaa0000-0000`;
  return { uuid, index, name: "NVIDIA H100", migParent: null, vendor: "nvidia", ...more };
}
const EIGHT = [3, 1, 0, 2, 7, 5, 4, 6].map((index) => gpu(index));
const id = (index: number) => gpu(index).uuid;

interface Case {
  gpus?: string | null;
  argv?: string | null;
  env?: Record<string, string | undefined>;
  machine?: MachineGpu[] | null;
  wanted?: number | null;
}

async function pin(given: Case): Promise<GpuPin & { asked: number; lines: string[] }> {
  const { log, lines } = memoryLog();
  let asked = 0;
  const { argv = "vllm serve m", machine = EIGHT } = given;
  const result = await pinGpus({
    gpus: given.gpus ?? null,
    launch: argv === null ? null : readEngineArgv(argv.split(" "), given.env ?? {}).launch,
    env: given.env ?? {},
    wanted: given.wanted ?? null,
    log,
    listGpus: async () => {
      asked += 1;
      return machine;
    },
  });
  return { ...result, asked, lines };
}

async function refusal(given: Case): Promise<string> {
  const error = await pin(given).then(
    () => null,
    (reason: unknown) => reason,
  );
  if (!(error instanceof LlmnodeError)) throw new Error("it was taken");
  expect(error.code).toBe("usage");
  return [error.message, ...error.hints].join(" | ");
}

test("indexes become CUDA's variables, in the order of nvidia-smi, and UUIDs for the head", async () => {
  const { env, uuids } = await pin({ gpus: "2,0", env: { CUDA_DEVICE_ORDER: "FASTEST_FIRST" } });
  expect(env).toEqual({ CUDA_VISIBLE_DEVICES: "2,0", CUDA_DEVICE_ORDER: "PCI_BUS_ID" });
  expect(uuids).toEqual([id(2), id(0)]);
});

test("UUIDs, a beginning of one, and both kinds in one list", async () => {
  const two = await pin({ gpus: `${id(1)},GPU-2aaa` });
  expect(two.uuids).toEqual([id(1), id(2)]);
  expect(two.env["CUDA_VISIBLE_DEVICES"]).toBe(`${id(1)},GPU-2aaa`);
  const mixed = await pin({ gpus: `0,${id(1)}` });
  expect(mixed.env["CUDA_VISIBLE_DEVICES"]).toBe(`${id(0)},${id(1)}`);
});

test("a MIG instance by its UUID; an index means the whole GPU", async () => {
  const mig = gpu(0, { uuid: "MIG-0aaa0000", migParent: id(0) });
  const machine = [mig, gpu(0)];
  expect((await pin({ gpus: "MIG-0aaa0000", machine })).uuids).toEqual(["MIG-0aaa0000"]);
  expect((await pin({ gpus: "0", machine })).uuids).toEqual([id(0)]);
});

test("AMD: HIP's variable for indexes, ROCr's for UUIDs, never both", async () => {
  const machine = [gpu(0, { vendor: "amd" }), gpu(1, { vendor: "amd" })];
  expect((await pin({ gpus: "1", machine, env: { ROCR_VISIBLE_DEVICES: "0" } })).env).toEqual({
    HIP_VISIBLE_DEVICES: "1",
    ROCR_VISIBLE_DEVICES: undefined,
    CUDA_VISIBLE_DEVICES: undefined,
  });
  expect((await pin({ gpus: id(1), machine })).env["ROCR_VISIBLE_DEVICES"]).toBe(id(1));
});

test("where no tool tells, what was given is taken, and that is said", async () => {
  const { env, uuids, lines } = await pin({ gpus: "0,GPU-abcd", machine: null });
  expect(env["CUDA_VISIBLE_DEVICES"]).toBe("0,GPU-abcd");
  expect(uuids).toEqual(["GPU-abcd"]);
  expect(lines.join()).toContain("--gpus is used unchecked");
});

test.each<[string, Case, RegExp]>([
  [
    "no such index",
    { gpus: "8" },
    /has no GPU 8 \| it has 0, 1, 2, 3, 4, 5, 6, 7; nvidia-smi -L shows/,
  ],
  ["no such UUID", { gpus: "GPU-ffff" }, /has no GPU GPU-ffff/],
  [
    "a beginning that two have",
    { gpus: "GPU-same", machine: [gpu(0, { uuid: "GPU-same1" }), gpu(1, { uuid: "GPU-same2" })] },
    /has no GPU GPU-same/,
  ],
  ["words", { gpus: "all" }, /"all" names no GPU/],
  ["an empty place", { gpus: "0,,1" }, /"" names no GPU/],
  ["nothing", { gpus: "" }, /names no GPU/],
  ["a range", { gpus: "0-3" }, /"0-3" names no GPU/],
  ["negative", { gpus: "-1" }, /names no GPU/],
  ["twice", { gpus: "1,1" }, /names GPU 1 twice/],
  [
    "a command that sets it itself",
    { gpus: "0", argv: "env CUDA_VISIBLE_DEVICES=3 vllm serve m" },
    /the command sets CUDA_VISIBLE_DEVICES=3 itself/,
  ],
])("%s: one line that says it", async (_, given, words) => {
  expect(await refusal(given)).toMatch(words);
});

test("a command that says the same is fine", async () => {
  const argv = "env CUDA_VISIBLE_DEVICES=0 vllm serve m";
  expect((await pin({ gpus: "0", argv })).uuids).toEqual([id(0)]);
});

test("an engine that asks for more than it gets is told of", async () => {
  const { lines } = await pin({ gpus: "0,1", wanted: 4 });
  expect(lines.join()).toContain("the engine wants 4 GPUs, --gpus gives it 2");
  expect((await pin({ gpus: "0,1", wanted: 2 })).lines).toEqual([]);
});

test("without --gpus nothing is set; what the environment shows is resolved", async () => {
  expect(await pin({})).toEqual({ env: {}, uuids: [], asked: 0, lines: [] });
  const own = await pin({ env: { CUDA_VISIBLE_DEVICES: "1,7" } });
  expect([own.env, own.uuids]).toEqual([{}, [id(1), id(7)]]);
  const wrapped = await pin({ argv: "env CUDA_VISIBLE_DEVICES=5 vllm serve m" });
  expect(wrapped.uuids).toEqual([id(5)]);
  const unsorted = { CUDA_VISIBLE_DEVICES: "1", CUDA_DEVICE_ORDER: "FASTEST_FIRST" };
  expect((await pin({ env: unsorted })).uuids).toEqual([]);
  expect((await pin({ env: { CUDA_VISIBLE_DEVICES: "9" } })).uuids).toEqual([]);
});

test("without --gpus a driver that hangs holds no engine up", async () => {
  const { log } = memoryLog();
  const env = { CUDA_VISIBLE_DEVICES: "1" };
  const { uuids } = await pinGpus({
    gpus: null,
    launch: readEngineArgv(["vllm", "serve", "m"], env).launch,
    env,
    wanted: null,
    log,
    listGpus: () => new Promise(() => undefined),
    patienceMs: 10,
  });
  expect(uuids).toEqual([]);
});

test("an engine that runs already is only told of", async () => {
  expect(await pin({ gpus: "1", argv: null })).toMatchObject({ env: {}, uuids: [id(1)] });
  expect(await pin({ argv: null, env: { CUDA_VISIBLE_DEVICES: "1" } })).toMatchObject({
    uuids: [],
  });
});

const DOCKER = "docker run --rm";

test.each([
  [`${DOCKER} --gpus device=1 vllm/vllm-openai --model m`, "1", [1]],
  [`${DOCKER} --gpus "device=2,0" vllm/vllm-openai`, "0,2", [0, 2]],
  [`${DOCKER} --gpus "device=2,0",capabilities=utility vllm/vllm-openai`, "0,2", [0, 2]],
  [`${DOCKER} --gpus=device=${id(3)} vllm/vllm-openai`, "3", [3]],
  [`podman run --device nvidia.com/gpu=1 --device nvidia.com/gpu=2 x`, "1,2", [1, 2]],
  [`${DOCKER} --runtime nvidia -e NVIDIA_VISIBLE_DEVICES=0,1 x`, "0,1", [0, 1]],
])("a container's own GPUs are held against --gpus: %s", async (argv, gpus, indexes) => {
  const same = await pin({ argv, gpus });
  expect([same.env, same.uuids]).toEqual([{}, indexes.map(id)]);
  // And without --gpus they are what it may use.
  expect((await pin({ argv })).uuids.sort()).toEqual(indexes.map(id));
  expect(await refusal({ argv, gpus: "7" })).toContain("--gpus says 7, but the command gives");
});

test.each([
  [`${DOCKER} --gpus all x`, /gives the container all GPUs \| .*docker run --gpus '"device=0"'/],
  [`${DOCKER} --gpus 2 x`, /some GPUs/],
  [`${DOCKER} x`, /gives the container no GPU/],
  ["podman run --device nvidia.com/gpu=all x", /podman run --device nvidia.com\/gpu=0 \.\.\./],
])("a container that gets others: %s", async (argv, words) => {
  expect(await refusal({ argv, gpus: "0" })).toMatch(words);
});

test("a list of names", () => {
  expect(parseGpus(" 0, 1 ")).toEqual(["0", "1"]);
  expect(parseGpus("MIG-GPU-abcd/1/0")).toEqual(["MIG-GPU-abcd/1/0"]);
});
