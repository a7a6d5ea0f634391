import { expect, test } from "bun:test";
import { adviseContainer, type AdviceFacts } from "../../../../src/engine/docker/argv/advice.ts";
import { readContainerCommand } from "../../../../src/engine/docker/argv/command.ts";

const VLLM: AdviceFacts = {
  kind: "vllm",
  models: ["a/b"],
  containerPort: 8000,
  listensInside: null,
  gpusWanted: 1,
};
const GOOD =
  "docker run --rm --gpus all --ipc=host -v ~/.cache/huggingface:/root/.cache/huggingface -p 8000:8000 vllm/vllm-openai --model a/b";

function advice(line: string, facts: Partial<AdviceFacts> = {}): string[] {
  const command = readContainerCommand(line.split(" "));
  if (command === null) throw new Error("no container command");
  return adviseContainer(command, { ...VLLM, ...facts });
}

test("a good command gets none", () => {
  expect(advice(GOOD)).toEqual([]);
  expect(advice(GOOD, { gpusWanted: 4 })).toEqual([]);
  expect(advice("podman run -p 1:2 quay.io/x/y", { kind: "generic", containerPort: null })).toEqual(
    [],
  );
});

test.each([
  [GOOD.replace("--ipc=host ", ""), { gpusWanted: 2 }, "--shm-size 16g"],
  [GOOD.replace(/-v \S+ /, ""), {}, "-v ~/.cache/huggingface:/root/.cache/huggingface"],
  [GOOD.replace(/-v \S+ /, "-v /x:/y "), { kind: "tgi" as const }, "-v $PWD/data:/data"],
  [GOOD.replace("--rm", "-it"), {}, "left out -t"],
  [GOOD.replace("--gpus all ", ""), {}, "add --gpus all"],
  [GOOD.replace("--gpus all ", "").replace("docker", "podman"), {}, "nvidia.com/gpu=all"],
  [GOOD.replace(/-p \S+ /, ""), {}, "add -p 127.0.0.1:8000:8000"],
  [GOOD.replace("8000:8000", "8080:8080"), {}, "use -p 8080:8000"],
  [GOOD, { listensInside: "127.0.0.1" }, "add --host 0.0.0.0"],
  [GOOD.replace("--rm", "--restart always"), {}, "--restart always makes docker restart"],
  [GOOD.replace("--rm", "--name vllm"), {}, "--name vllm can be used by one worker"],
  [GOOD, { listensInside: "127.0.0.1" }, "add --host 0.0.0.0"],
])("%s", (line, facts, words) => {
  const lines = advice(line, facts);
  expect(lines).toHaveLength(1);
  expect(lines[0]).toContain(words);
});

test.each([
  ["--shm-size for one GPU", GOOD.replace("--ipc=host ", ""), {}],
  [
    "shared memory by a mount",
    GOOD.replace("--ipc=host", "-v /dev/shm:/dev/shm"),
    { gpusWanted: 8 },
  ],
  ["a cache that a variable moves", GOOD.replace(/-v \S+ /, "-e HF_HOME=/m "), {}],
  ["a cache in a mounted parent", GOOD.replace(/-v \S+ /, "-v c:/root/.cache "), {}],
  ["weights by their path", GOOD.replace(/-v \S+ /, ""), { models: ["/models/a"] }],
  [
    "weights by their path, under another name",
    GOOD.replace(/-v \S+ /, "-v /models:/models ").replace("a/b", "/models/a"),
    { models: ["a"] },
  ],
  [
    "one process with many GPUs",
    GOOD.replace("--ipc=host ", ""),
    { kind: "llama-server" as const, gpusWanted: 4, models: ["/m"] },
  ],
  ["an address that the host has too", GOOD, { listensInside: "0.0.0.0" }],
  ["an image for processors", GOOD.replace("--gpus all ", "").replace("openai", "openai-cpu"), {}],
  ["the host's network", GOOD.replace(/-p \S+ /, "--network host "), {}],
  ["all ports", GOOD.replace(/-p \S+ /, "-P "), {}],
])("silent about %s", (_what, line, facts) => {
  expect(advice(line, facts)).toEqual([]);
});
