import { describe, expect, test } from "bun:test";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { readEngineArgv, type ArgvFacts } from "../../../src/engine/argv/argv.ts";
import { scratchFolder } from "../harness.ts";

type Row = [command: string, expected: Partial<ArgvFacts>, env?: Record<string, string>];

function check(rows: Row[]): void {
  for (const [command, expected, env = {}] of rows) {
    test(command, () => {
      expect(readEngineArgv(command.split(" "), env)).toMatchObject(expected);
    });
  }
}

describe("GPUs that a command asks for", () => {
  check([
    ["vllm serve m", { gpusWanted: 1 }],
    ["vllm serve m -tp 4", { gpusWanted: 4 }],
    ["vllm serve m --tensor_parallel_size=4 -pp 2", { gpusWanted: 8 }],
    ["vllm serve m -tp 2 -dp 4", { gpusWanted: 8 }],
    ["vllm serve m -tp 2 -dp 4 --data-parallel-size-local 1", { gpusWanted: 2 }],
    ["vllm serve m -tp 8 -pp 2 --nnodes 2", { gpusWanted: 8 }],
    ["vllm serve m -dp 8 --data-parallel-rank 3", { gpusWanted: 1 }],
    ["vllm serve m -tp many", { gpusWanted: 1 }],
    ["sglang serve m --tp 8", { gpusWanted: 8 }],
    ["sglang serve m --tp-size 2 --dp-size 2", { gpusWanted: 4 }],
    ["sglang serve m --tp-size 8 --dp-size 8 --enable-dp-attention", { gpusWanted: 8 }],
    ["sglang serve m --tp 16 --nnodes 2", { gpusWanted: 8 }],
    ["text-generation-launcher --model-id m", { gpusWanted: null }],
    ["text-generation-launcher --model-id m --num-shard 2", { gpusWanted: 2 }],
    ["text-generation-launcher --model-id m", { gpusWanted: 4 }, { NUM_SHARD: "4" }],
    ["text-generation-launcher", { gpusWanted: 2 }, { CUDA_VISIBLE_DEVICES: "0,3" }],
    ["text-generation-launcher", { gpusWanted: null }, { NVIDIA_VISIBLE_DEVICES: "all" }],
    [
      "text-generation-launcher --sharded false",
      { gpusWanted: 1 },
      { CUDA_VISIBLE_DEVICES: "0,3" },
    ],
    ["text-embeddings-router --model-id m", { gpusWanted: 1 }],
    ["ollama serve", { gpusWanted: null }],
    ["llama-server -m x", { gpusWanted: null }],
    ["llama-server -m x -dev CUDA0,CUDA1", { gpusWanted: 2 }],
    ["llama-server -m x --split-mode none", { gpusWanted: 1 }],
    ["llama-server -m x --device none", { gpusWanted: 0 }],
    ["trtllm-serve m --tp_size 4 --pp_size 2 --ep_size 4", { gpusWanted: 8 }],
    ["lmdeploy serve api_server m --tp 2", { gpusWanted: 2 }],
    ["./serve.sh", { gpusWanted: null }],
  ]);
});

describe("requests at once that a command tells", () => {
  check([
    ["vllm serve m", { maxInFlight: null }],
    ["vllm serve m --max-num-seqs 256", { maxInFlight: 320 }],
    ["vllm serve m --max-num-seqs 10 -dp 2", { maxInFlight: 25 }],
    ["vllm serve m --max-num-seqs 0", { maxInFlight: null }],
    ["sglang serve m --max-running-requests 8", { maxInFlight: 10 }],
    ["text-generation-launcher --max-concurrent-requests 64", { maxInFlight: 64 }],
    ["text-embeddings-router", { maxInFlight: 9 }, { MAX_CONCURRENT_REQUESTS: "9" }],
    ["ollama serve", { maxInFlight: 1 }],
    ["ollama serve", { maxInFlight: null }, { OLLAMA_NUM_PARALLEL: "0" }],
    ["ollama serve", { maxInFlight: 4 }, { OLLAMA_NUM_PARALLEL: "4" }],
    [
      "ollama serve",
      { maxInFlight: 8 },
      { OLLAMA_NUM_PARALLEL: "4", OLLAMA_MAX_LOADED_MODELS: "2" },
    ],
    ["llama-server -m x -np 8", { maxInFlight: 8 }],
    ["llama-server -m x --parallel -1", { maxInFlight: null }],
    ["llama-server -m x", { maxInFlight: 2 }, { LLAMA_ARG_N_PARALLEL: "2" }],
    ["trtllm-serve m --max_batch_size 64", { maxInFlight: 80 }],
    ["lmdeploy serve api_server m --max-concurrent-requests 5", { maxInFlight: 5 }],
  ]);
});

describe("lengths and times", () => {
  check([
    ["trtllm-serve m --max_seq_len 4096", { maxModelLen: 4096 }],
    ["lmdeploy serve api_server m --session-len 8192", { maxModelLen: 8192 }],
    ["vllm serve m", { stopTimeoutMs: null }],
    ["vllm serve m --shutdown-timeout 60", { stopTimeoutMs: 90_000 }],
    ["text-generation-launcher --graceful-termination-timeout 5", { stopTimeoutMs: 15_000 }],
  ]);
});

describe("commands without an HTTP port", () => {
  const said = (words: string) => expect.stringContaining(words);
  check([
    ["vllm serve m --headless", { noHttp: said("--headless") }],
    ["vllm serve m --grpc", { noHttp: said("gRPC") }],
    ["vllm serve m --uds /tmp/s", { noHttp: said("Unix socket") }],
    ["sglang serve m --smg-grpc-mode", { noHttp: said("gRPC") }],
    ["sglang serve m --nnodes 2 --node-rank 1", { noHttp: said("--node-rank 1") }],
    ["sglang serve m --nnodes 2 --node-rank 0", { noHttp: null }],
    ["llama-server -m x --host /run/l.sock", { noHttp: said("Unix socket") }],
    ["llama-server -m x --api-prefix /llm", { noHttp: said("--api-prefix /llm") }],
    ["trtllm-serve grpc m", { kind: "trtllm", noHttp: said("gRPC") }],
    ["vllm serve m", { noHttp: null }],
  ]);
  test("a front end beside its workers is the one that counts", () => {
    const line = "python -m dynamo.frontend --http-port 81 & python -m dynamo.vllm --model m";
    const hints = readEngineArgv(["bash", "-c", line], {});
    expect(hints).toMatchObject({ kind: "dynamo", port: 81, noHttp: null });
  });
});

describe("containers", () => {
  const run = "docker run --rm --gpus all";
  check([
    [
      `${run} -p 8080:8000 vllm/vllm-openai:v0.11 --model m`,
      { kind: "vllm", port: 8080, containerPort: 8000, models: ["m"], usualPort: null },
    ],
    [`${run} -p 9:9 vllm/vllm-openai m --port 9 -tp 2`, { port: 9, models: ["m"], gpusWanted: 2 }],
    [`${run} -p 8000:8000 vllm/vllm-openai m --port 9`, { port: null, containerPort: 9 }],
    [`${run} --network host vllm/vllm-openai m`, { port: null, usualPort: 8000 }],
    [`${run} --network host vllm/vllm-openai m --port 7`, { port: 7 }],
    [`${run} -p 127.0.0.1:5:8000 vllm/vllm-openai@sha256:0 m`, { port: 5, host: "127.0.0.1" }],
    [`${run} -p 8000 vllm/vllm-openai m`, { kind: "vllm", port: null, usualPort: null }],
    [`${run} -e VLLM_API_KEY=k vllm/vllm-openai m`, { apiKey: "k" }],
    [`${run} -e VLLM_API_KEY vllm/vllm-openai m`, { apiKey: "own" }, { VLLM_API_KEY: "own" }],
    [`${run} vllm/vllm-openai m`, { apiKey: null }, { VLLM_API_KEY: "own" }],
    [`${run} -p 1:8000 rocm/vllm vllm serve m`, { kind: "vllm", port: 1, models: ["m"] }],
    [
      `${run} -p 30000:30000 lmsysorg/sglang:latest python3 -m sglang.launch_server --model-path m`,
      { kind: "sglang", port: 30000, models: ["m"] },
    ],
    [`${run} -p 1:30000 lmsysorg/sglang bash -c sglang\\ serve\\ m`, { kind: "sglang" }],
    [`${run} -p 5:30000 lmsysorg/sglang ./start.sh`, { kind: "sglang", port: 5 }],
    [
      `${run} -p 8080:80 ghcr.io/huggingface/text-generation-inference:3.3 --model-id m`,
      { kind: "tgi", port: 8080, containerPort: 80, models: ["m"] },
    ],
    [
      `${run} -p 8080:90 -e PORT=90 -e MODEL_ID=e ghcr.io/huggingface/text-generation-inference:3`,
      { kind: "tgi", port: 8080, models: ["e"] },
    ],
    [
      `${run} -p 8081:80 ghcr.io/huggingface/text-embeddings-inference:89-1.9 --model-id m`,
      { kind: "tei", port: 8081, containerPort: 80 },
    ],
    [`${run} -d -p 11434:11434 ollama/ollama`, { kind: "ollama", port: 11434 }],
    [`${run} -p 1:11434 ollama/ollama:rocm serve`, { kind: "ollama", port: 1 }],
    [
      `${run} -p 8080:8080 ghcr.io/ggml-org/llama.cpp:server-cuda -m /m/q.gguf -np 8`,
      { kind: "llama-server", port: 8080, models: ["/m/q.gguf"], maxInFlight: 8 },
    ],
    [`${run} ghcr.io/ggml-org/llama.cpp:light -m x`, { kind: "generic" }],
    [
      `${run} --ipc host -p 8000:8000 nvcr.io/nvidia/tensorrt-llm/release:1.0 trtllm-serve m`,
      { kind: "trtllm", port: 8000, models: ["m"] },
    ],
    [
      `${run} -p 23333:23333 openmmlab/lmdeploy lmdeploy serve api_server m`,
      { kind: "lmdeploy", port: 23333 },
    ],
    [`${run} --entrypoint sglang -p 1:30000 my/image serve m`, { kind: "sglang", port: 1 }],
    [`${run} -p 1:80 my/registry:5000/ollama/ollama`, { kind: "ollama", containerPort: 11434 }],
    [`${run} -p 7:80 my/own-server`, { kind: "generic", port: 7 }],
    ["sudo podman run -p 5:8000 vllm/vllm-openai m", { kind: "vllm", port: 5 }],
    ["nerdctl run -p 5:8000 vllm/vllm-openai m", { kind: "vllm", port: 5 }],
    [`${run} -p 1:30000 lmsysorg/sglang sglang serve m`, { listensInside: "127.0.0.1" }],
    [`${run} -p 1:30000 lmsysorg/sglang sglang serve m --host ::`, { listensInside: "::" }],
    [`${run} -p 1:30000 lmsysorg/sglang ./start.sh`, { listensInside: "0.0.0.0" }],
    [`${run} -p 1:1 vllm/vllm-openai --config /x.yaml`, { listensInside: null }],
    [`${run} --network host lmsysorg/sglang sglang serve m`, { listensInside: null }],
    [`${run} -p 1:11434 ollama/ollama`, { listensInside: "0.0.0.0" }],
    ["docker compose up", { kind: "generic", port: null }],
  ]);
});

describe("configuration files", () => {
  test("set what the command line leaves open, where they can be read", async () => {
    await using scratch = await scratchFolder();
    const { path: dir } = scratch;
    const read = (command: string) => readEngineArgv(command.split(" "), {}, { cwd: dir });
    writeFileSync(
      join(dir, "vllm.yaml"),
      "model: from-file\nport: 8011\nhost: 0.0.0.0\nserved-model-name: [a, b]\n" +
        "tensor_parallel_size: 2\nenforce-eager: true\nlora-modules: null\n",
    );
    const whole = { port: 8011, host: "0.0.0.0", models: ["a", "b"], gpusWanted: 2 };
    expect(read("vllm serve --config vllm.yaml")).toMatchObject({ ...whole, usualPort: 8000 });
    expect(read(`vllm serve m --config=${dir}/vllm.yaml`)).toMatchObject(whole);
    expect(read("vllm serve --config vllm.yaml --port 5")).toMatchObject({ port: 5 });
    expect(read("vllm serve --port 5 --config vllm.yaml")).toMatchObject({ port: 5 });

    writeFileSync(join(dir, "plain.yaml"), "model: from-file\nmax-model-len: 100\n");
    expect(read("vllm serve --config plain.yaml")).toMatchObject({
      port: null,
      usualPort: 8000,
      models: ["from-file"],
    });
    expect(read("vllm serve m --config plain.yaml").models).toEqual(["m"]);

    writeFileSync(join(dir, "sglang.yaml"), "model-path: s\nport: 30011\ntp-size: 4\n");
    const sglang = read("python -m sglang.launch_server --config sglang.yaml");
    expect(sglang).toMatchObject({ port: 30011, models: ["s"], gpusWanted: 4 });
    // TensorRT-LLM's file holds no port.
    expect(read("trtllm-serve m --config vllm.yaml")).toMatchObject({
      port: null,
      usualPort: 8000,
    });
  });

  test("an API key is read from the file that holds it", async () => {
    await using scratch = await scratchFolder();
    const { path: cwd } = scratch;
    const key = (...args: string[]) =>
      readEngineArgv(["llama-server", "-m", "x", ...args], {}, { cwd }).apiKey;
    writeFileSync(join(cwd, "keys"), "\n  first \nsecond\n");
    writeFileSync(join(cwd, "empty"), "\n\n");
    expect(key("--api-key-file", "keys")).toBe("first");
    expect(key("--api-key-file", join(cwd, "keys"), "--api-key", "own")).toBe("own");
    for (const file of ["empty", "missing", "."]) expect(key("--api-key-file", file)).toBeNull();
    const inside = "docker run ghcr.io/ggml-org/llama.cpp:server -m x --api-key-file /etc/hostname";
    expect(readEngineArgv(inside.split(" "), {}).apiKey).toBeNull();
  });

  test("leave the port open where they cannot be read", async () => {
    await using scratch = await scratchFolder();
    const { path: dir } = scratch;
    mkdirSync(join(dir, "folder"));
    writeFileSync(join(dir, "broken.yaml"), "port: [");
    writeFileSync(join(dir, "list.yaml"), "- port\n- 1\n");
    writeFileSync(join(dir, "large.yaml"), `port: 1 # ${"x".repeat(2_000_000)}\n`);
    const files = ["missing.yaml", "folder", "broken.yaml", "list.yaml", "large.yaml", "/dev/null"];
    for (const file of files) {
      const argv = ["vllm", "serve", "m", "--config", file];
      const hints = readEngineArgv(argv, {}, { cwd: dir });
      expect([file, hints.port, hints.usualPort]).toEqual([file, null, null]);
      expect(readEngineArgv([...argv, "--port", "5"], {}, { cwd: dir }).port).toBe(5);
    }
    const inside = "docker run -p 8010:8011 vllm/vllm-openai --config /etc/vllm.yaml";
    expect(readEngineArgv(inside.split(" "), {})).toMatchObject({ kind: "vllm", port: 8010 });
  });
});
