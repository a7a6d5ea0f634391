import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { readEngineArgv, type ArgvFacts } from "../../../src/engine/argv/argv.ts";

type Row = [command: string, expected: Partial<ArgvFacts>, env?: Record<string, string>];

/** Words are split at spaces; the tests of quoting have their own table. */
function check(rows: Row[]): void {
  for (const [command, expected, env = {}] of rows) {
    test(command, () => {
      expect(readEngineArgv(command.split(" "), env)).toMatchObject(expected);
    });
  }
}

describe("vLLM", () => {
  check([
    [
      "vllm serve Qwen/Qwen3-8B --port 8080",
      { kind: "vllm", port: 8080, models: ["Qwen/Qwen3-8B"] },
    ],
    ["vllm serve m", { kind: "vllm", port: null, host: null, https: false, apiKey: null }],
    ["/opt/venv/bin/vllm serve m --port=9000 --host=::", { kind: "vllm", port: 9000, host: "::" }],
    ["vllm serve --port 9000 --enforce-eager m", { port: 9000, models: ["m"] }],
    ["vllm serve -tp 2 -O3 m", { models: ["m"] }],
    ["vllm serve m --served-model-name a b --port 1", { models: ["a", "b"], port: 1 }],
    ["vllm serve m --served_model_name=a", { models: ["a"] }],
    ["vllm serve m --lora-modules x=/x y=/y", { models: ["m", "x", "y"] }],
    ['vllm serve m --lora-modules {"name":"z","path":"/z"}', { models: ["m", "z"] }],
    ["vllm serve m --lora-modules {broken", { models: ["m"] }],
    ["vllm serve m --api-key k1 k2", { apiKey: "k1" }],
    ["vllm serve m", { apiKey: "e" }, { VLLM_API_KEY: "e", VLLM_PORT: "5" }],
    ["vllm serve m --ssl-keyfile k --ssl-certfile c", { https: true }],
    ["vllm serve m --port 8080 --port 8081", { port: 8081 }],
    ["vllm serve m --port many", { port: null }],
    ["vllm serve m --port 70000", { port: null }],
    ["vllm serve m --max-model-len -1 --port 7", { port: 7 }],
    ["vllm bench serve", { kind: "generic" }],
    [
      "python -m vllm.entrypoints.openai.api_server --model m --port 8001",
      { kind: "vllm", port: 8001, models: ["m"] },
    ],
    ["python3.12 -u -X dev -m vllm.entrypoints.openai.api_server --model m", { models: ["m"] }],
    [
      "python /usr/lib/python3/site-packages/vllm/entrypoints/openai/api_server.py --model m",
      { kind: "vllm", models: ["m"] },
    ],
  ]);
});

describe("SGLang", () => {
  check([
    ["sglang serve m --port 1", { kind: "sglang", port: 1, models: ["m"] }],
    [
      "python -m sglang.launch_server --model-path m --host 0.0.0.0",
      { kind: "sglang", models: ["m"], host: "0.0.0.0" },
    ],
    ["python -m sglang.launch_server --model m --served-model-name n", { models: ["n"] }],
    [
      "python -m sglang.launch_server --model-p m --served-model n --api-k k",
      { models: ["n"], apiKey: "k" },
    ],
    ["sglang serve --model-path m --api-key k --ssl-certfile c", { apiKey: "k", https: true }],
    ["sglang generate m", { kind: "generic" }],
  ]);
});

describe("TGI and TEI", () => {
  check([
    ["text-generation-launcher --model-id m -p 3001", { kind: "tgi", port: 3001, models: ["m"] }],
    [
      "text-generation-launcher",
      { kind: "tgi", port: 81, models: ["e"], apiKey: "k", host: null },
      { PORT: "81", MODEL_ID: "e", API_KEY: "k", HOSTNAME: "gpu-box" },
    ],
    [
      "text-generation-launcher --port=2 --hostname 0.0.0.0",
      { port: 2, host: "0.0.0.0" },
      { PORT: "81", HOSTNAME: "::" },
    ],
    ["text-generation-launcher", { host: "::" }, { HOSTNAME: "::" }],
    ["text-embeddings-router --model-id m --port 3002", { kind: "tei", port: 3002, models: ["m"] }],
    [
      "text-embeddings-router --model-id m --served-model-name n --api-key k",
      { models: ["n"], apiKey: "k" },
    ],
    ["text-embeddings-router", { models: ["n"] }, { MODEL_ID: "m", SERVED_MODEL_NAME: "n" }],
  ]);
});

describe("Ollama", () => {
  check([
    ["ollama serve", { kind: "ollama", port: null, host: null, models: [] }],
    ["ollama start", { kind: "ollama", host: "0.0.0.0", port: 11434 }, { OLLAMA_HOST: "0.0.0.0" }],
    ["ollama serve", { host: "0.0.0.0", port: 9 }, { OLLAMA_HOST: "0.0.0.0:9" }],
    ["ollama serve", { host: "127.0.0.1", port: 9 }, { OLLAMA_HOST: ":9" }],
    ["ollama serve", { host: "h", port: 80 }, { OLLAMA_HOST: "http://h" }],
    ["ollama serve", { host: "h", port: 443, https: false }, { OLLAMA_HOST: "https://h/" }],
    ["ollama serve", { host: "::", port: 7 }, { OLLAMA_HOST: "[::]:7" }],
    ["env OLLAMA_HOST=0.0.0.0:99 ollama serve", { kind: "ollama", port: 99 }],
    ["ollama run llama3", { kind: "generic" }],
  ]);
});

describe("llama.cpp", () => {
  check([
    [
      "llama-server -m /m/q.gguf --port 0",
      { kind: "llama-server", port: 0, models: ["/m/q.gguf"] },
    ],
    [
      "llama-server -hf ggml-org/x:Q4 --host 0.0.0.0",
      { models: ["ggml-org/x:Q4"], host: "0.0.0.0" },
    ],
    ["llama-server -m x -a one,two --api-key k,l", { models: ["one", "two"], apiKey: "k" }],
    ["llama serve -m x", { kind: "llama-server" }],
    ["llama server -m x", { kind: "llama-server" }],
    ["./server -m x --port 5", { kind: "llama-server", port: 5 }],
    ["./server --port 5", { kind: "generic", port: 5 }],
    [
      "llama-server",
      { port: 6, host: "::", apiKey: "k", models: ["r"] },
      { LLAMA_ARG_PORT: "6", LLAMA_ARG_HOST: "::", LLAMA_API_KEY: "k", LLAMA_ARG_HF_REPO: "r" },
    ],
    ["llama-server --port 7", { port: 7 }, { LLAMA_ARG_PORT: "6" }],
    ["llama-server --ssl-key-file k --ssl-cert-file c", { https: true }],
    ["python -m llama_cpp.server --port 8", { kind: "generic", port: 8 }],
  ]);
});

describe("TensorRT-LLM, LMDeploy, Dynamo, sim", () => {
  check([
    ["trtllm-serve m --port 8", { kind: "trtllm", port: 8, models: ["m"] }],
    [
      "trtllm-serve serve /models/Llama-3/ --host 0.0.0.0",
      { models: ["Llama-3"], host: "0.0.0.0" },
    ],
    ["trtllm-serve org/m --served_model_name n", { models: ["n"] }],
    ["trtllm-serve disaggregated -c x", { kind: "generic" }],
    ["lmdeploy serve api_server m --server-port 9", { kind: "lmdeploy", port: 9, models: ["m"] }],
    [
      "lmdeploy serve api_server m --model-name n --server-name ::1 --api-keys a b",
      { models: ["n"], host: "::1", apiKey: "a" },
    ],
    ["lmdeploy serve gradio m", { kind: "generic" }],
    ["python -m dynamo.frontend --http-port 8000", { kind: "dynamo", port: 8000 }],
    [
      "python -m dynamo.frontend",
      { port: 5, host: "::" },
      { DYN_HTTP_PORT: "5", DYN_HTTP_HOST: "::" },
    ],
    ["python -m dynamo.vllm --model m", { kind: "dynamo", noHttp: expect.any(String) }],
    ["llmnode sim --port 0 --model a --model b", { kind: "sim", port: 0, models: ["a", "b"] }],
    ["llmnode status", { kind: "generic" }],
  ]);
});

describe("unknown commands", () => {
  check([
    ["./serve.sh", { kind: "generic", port: null, models: [] }],
    ["python app.py --port 5000 --host 0.0.0.0", { kind: "generic", port: 5000, host: "0.0.0.0" }],
    ["ssh box vllm serve m --port 9", { kind: "generic", port: null }],
  ]);
  test("nothing at all", () => {
    expect(readEngineArgv([], {})).toMatchObject({ kind: "generic", port: null });
  });
  test("never throws", () => {
    const word = fc.oneof(
      fc.string(),
      fc.constantFrom("env", "bash", "-c", "uv", "run", "vllm", "serve", "--port", "--", "$A", "'"),
    );
    fc.assert(
      fc.property(fc.array(word), fc.dictionary(fc.string(), fc.string()), (argv, env) => {
        const hints = readEngineArgv(argv, env);
        return hints.port === null || (hints.port >= 0 && hints.port <= 65535);
      }),
    );
  });
});

describe("wrappers", () => {
  const wrappers = [
    "env A=b C=d",
    "env -u A B=c",
    "sudo -E -u me A=b",
    "sudo -- env A=b",
    "nohup",
    "nice -n 5",
    "nice -10",
    "ionice -c 2 -n 0",
    "setsid -w",
    "stdbuf -oL -eL",
    "numactl --cpunodebind=0 --membind 0",
    "numactl -N 0 -m 0",
    "taskset -c 0-15",
    "taskset 0xff",
    "time -p",
    "timeout -k 5 1h",
    "uv run",
    "uv run --python 3.12 --with vllm --",
    "uvx --from vllm",
    "pixi run -e gpu",
    "poetry run",
    "conda run -n llm --no-capture-output",
    "/usr/bin/mpirun -n 1 --allow-run-as-root --mca btl self",
    "mpiexec -np 2",
    "trtllm-llmapi-launch",
    "srun -N 1 --gres=gpu:2 -p gpu",
    "tini --",
    "nohup nice -n 5 env A=b uv run",
  ];
  for (const wrapper of wrappers) {
    test(wrapper, () => {
      const argv = [...wrapper.split(" "), "vllm", "serve", "m", "--port", "81"];
      expect(readEngineArgv(argv, {})).toMatchObject({ kind: "vllm", port: 81, models: ["m"] });
    });
  }
  test("uv run -m", () => {
    const argv = ["uv", "run", "-m", "sglang.launch_server", "--port", "3"];
    expect(readEngineArgv(argv, {})).toMatchObject({ kind: "sglang", port: 3 });
  });
});

describe("shells", () => {
  const lines: Array<[string, Partial<ArgvFacts>]> = [
    ["vllm serve m --port 81", { kind: "vllm", port: 81 }],
    ["exec vllm serve 'a b' --port 81", { models: ["a b"] }],
    ['vllm serve "a b" --port "81"', { models: ["a b"], port: 81 }],
    ["source venv/bin/activate && vllm serve m", { kind: "vllm" }],
    ["cd /x; export PORT=82; vllm serve m --port $PORT", { port: 82 }],
    ["PORT=82\nvllm serve m --port ${PORT}", { port: 82 }],
    ["vllm serve m --port ${NOPE:-83}", { port: 83 }],
    ["vllm serve $MODEL --port $PORT", { models: ["from-env"], port: null }],
    ["VLLM_API_KEY=k vllm serve m", { apiKey: "k" }],
    ["vllm serve m \\\n  --port 84", { port: 84 }],
    ["vllm serve m --port 85 2>&1 | tee -a log", { kind: "vllm", port: 85 }],
    ["vllm serve m --port 86 > log 2> err &", { port: 86 }],
    ["vllm serve m --port 87 & wait", { kind: "vllm", port: 87 }],
    ["prepare || exit 1; (vllm serve m --port 88)", { kind: "vllm", port: 88 }],
    ["vllm serve m # --port 1", { port: null }],
    ["nohup bash -c 'vllm serve m --port 89'", { port: 89 }],
    ["echo 'unfinished", { kind: "generic" }],
    ["", { kind: "generic" }],
  ];
  for (const [line, expected] of lines) {
    test(JSON.stringify(line), () => {
      const hints = readEngineArgv(["bash", "-lc", line], { MODEL: "from-env" });
      expect(hints).toMatchObject(expected);
    });
  }
  test("options before -c, and scripts", () => {
    const line = "vllm serve m --port 90";
    const argv = ["/bin/bash", "-eu", "-o", "pipefail", "-c", line];
    expect(readEngineArgv(argv, {})).toMatchObject({ kind: "vllm", port: 90 });
    expect(readEngineArgv(["sh", "start.sh", "--port", "91"], {})).toMatchObject({
      kind: "generic",
      port: 91,
    });
  });
});
