/** Fuzzes what reads engines: their command lines, what they print, what they say of themselves. */

import { shellWord } from "../../src/cli/base/shell-word.ts";
import { readEngineArgv } from "../../src/engine/argv/argv.ts";
import { readContainerCommand } from "../../src/engine/docker/argv/command.ts";
import { readComposeCommand } from "../../src/engine/docker/argv/compose-command.ts";
import { readInspect } from "../../src/engine/docker/inspect.ts";
import { createPullReader } from "../../src/engine/docker/pull.ts";
import { readAddress, readProgress, tellingLine } from "../../src/engine/diagnose/log-lines.ts";
import { PRESETS } from "../../src/engine/presets/all.ts";
import { shellCommands } from "../../src/engine/shell-words.ts";
import { must, mustEqual, pure } from "./fuzzer.ts";
import { damaged, jsonText, oddText } from "./random.ts";

const COMMANDS = [
  "vllm serve Qwen/Qwen3-8B --port 8001 --served-model-name a b --tensor-parallel-size 2 --api-key k",
  "python3 -u -m vllm.entrypoints.openai.api_server --model m --host 0.0.0.0 --port=8000",
  "env CUDA_VISIBLE_DEVICES=0,1 nice -n 5 python -m sglang.launch_server --model-path m --tp 2",
  "uv run --with vllm -m vllm.entrypoints.openai.api_server --model m",
  "sudo -u me docker run --rm --gpus all -p 127.0.0.1:8000:80 -e A=b -v /a:/b ghcr.io/huggingface/text-generation-inference:3 --model-id m",
  "podman run -itp 8000:8000 --network host vllm/vllm-openai:latest --model m",
  "docker compose -f compose.yaml --profile gpu up -d --wait engine",
  "llama-server -m model.gguf --port 8080 -np 4 --alias a",
  "ollama serve",
  "trtllm-serve m --host 0.0.0.0 --port 8000 --tp_size 2",
  "mpirun -n 2 --mca a b trtllm-llmapi-launch trtllm-serve m",
  "bash -lc 'source env.sh && export PORT=8001; exec vllm serve m --port $PORT 2>&1 | tee log'",
  "llmnode sim --port 0 --model m --announce",
];
const WORDS = [
  ...[
    "--",
    "-m",
    "-c",
    "bash",
    "env",
    "A=b",
    "run",
    "docker",
    "--port",
    "--port=",
    "-p",
    "::80:",
    "[::1]:80:80",
  ],
  ...[
    "--model",
    "--config",
    "--api-key",
    "'",
    '"',
    "$PORT",
    "${PORT:-8000}",
    "&&",
    "||",
    "|",
    ";",
    "2>&1",
    "#",
  ],
];

export const commands = pure(
  "commands",
  "any engine command is read without harm, and says nothing that cannot be",
  (random) => {
    const line = damaged(random, random.pick(COMMANDS), WORDS);
    const env = { PORT: "8001", PATH: "/bin", A: oddText(random, 2) };
    const argv = random.chance(0.7) ? line.split(" ") : ["bash", "-c", line];
    if (random.chance(0.3)) argv.splice(random.below(argv.length), 0, oddText(random, 2));
    // No file of this machine is read: none of the folders is there.
    const hints = readEngineArgv(argv, env, { cwd: "/nonexistent" });
    for (const port of [hints.port, hints.usualPort, hints.containerPort]) {
      must(
        port === null || (Number.isInteger(port) && port >= 0 && port <= 65_535),
        "a port",
        argv,
      );
    }
    must(
      hints.models.every((model) => typeof model === "string"),
      "a model's name",
      argv,
    );
    const container = readContainerCommand(argv, env);
    if (container) {
      must(argv[container.imageAt] === container.image, "the image's place", argv);
      must(argv[container.runAt] === "run", "the place of run", argv);
    }
    const compose = readComposeCommand(argv, env, "project");
    must(compose === null || compose.project.length > 0, "a project without a name", argv);
  },
);

export const shell = pure(
  "shell",
  "a shell's line is split as it was quoted, and any other ends",
  (random) => {
    const words = [
      "program",
      ...random.several(5, () => oddText(random, 3)).filter((word) => !/[<>]|&/.test(word)),
    ];
    const line = words.map(shellWord).join(" ");
    const [split = []] = [...shellCommands(line, {})];
    mustEqual(split, words, { what: "the words of a line", input: line });
    const odd = damaged(random, random.pick(COMMANDS), WORDS);
    for (const command of shellCommands(odd, { PORT: "$PORT" })) {
      must(command.length <= odd.length, "more words than characters", odd);
    }
  },
);

const PRINTED = [
  "INFO:     Uvicorn running on http://0.0.0.0:8000 (Press CTRL+C to quit)",
  "Loading safetensors checkpoint shards:  25% Completed | 1/4 [00:01<00:03,  1.02s/it]",
  "main: server is listening on http://127.0.0.1:8080 - starting the main loop",
  "Downloading (incomplete total...):  42%|####      | 1.2G/3.0G [00:10<00:20, 90MB/s]",
  "a3ed95caeb02: Downloading [====>      ]  1.2MB/30MB",
  "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB",
  "\u001b[1;36m(EngineCore_0 pid=12)\u001b[0;0m ERROR 08-01 12:00:00 [core.py:1] failed",
];
const METRICS = [
  '# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running{model_name="m"} 3.0',
  'vllm:num_requests_waiting{engine="0",model_name="a}b"} 2.0\nvllm:kv_cache_usage_perc{engine="0"} 0.5',
  "vllm:generation_tokens_total 1e3 1690000000\nvllm:prefix_cache_hits_total 5\nvllm:prefix_cache_queries_total 9",
  'sglang:num_running_reqs{tp_rank="0"} 1\nsglang:num_queue_reqs 2\nsglang:token_usage 0.3',
  '[{"dp_rank":0,"num_reqs":2,"num_waiting_reqs":1,"num_tokens":7}]',
  '[{"id":0,"is_processing":true,"n_ctx":4096}]',
];

export const engineTalk = pure(
  "engine-talk",
  "what engines print, count and answer is taken as what it can be, or not at all",
  (random) => {
    const said = random.several(4, () => damaged(random, random.pick(PRINTED)));
    const pull = createPullReader();
    for (const text of said) {
      const address = readAddress(text);
      const port = address?.port ?? 0;
      must(Number.isInteger(port) && port >= 0 && port <= 65_535, "a port", text);
      for (const progress of [readProgress(text), pull(text)]) checkProgress(progress, text);
    }
    tellingLine(said);
    const metrics = damaged(
      random,
      random.several(3, () => random.pick(METRICS)).join("\n"),
      METRICS,
    );
    for (const preset of Object.values(PRESETS)) {
      for (const source of preset.load) {
        const load = source.read(metrics)?.load ?? {};
        for (const figure of Object.values(load)) {
          must(Number.isFinite(figure) && figure >= 0, `a figure of ${preset.kind}`, metrics);
        }
        must((load.kvUsage ?? 0) <= 1, "a share above 1", metrics);
      }
    }
    readInspect(random.chance(0.5) ? jsonText(random) : damaged(random, INSPECTED));
  },
);

const INSPECTED = JSON.stringify([
  {
    Id: "0123456789ab",
    Name: "/engine",
    State: { Status: "running", Pid: 12, ExitCode: 0, OOMKilled: false },
    Config: { Labels: { "llmnode.engine": "e" }, Tty: false },
    NetworkSettings: { Networks: { bridge: { IPAddress: "172.17.0.2" } }, Ports: { "80/tcp": [] } },
  },
]);

function checkProgress(progress: object | null, text: string): void {
  for (const value of Object.values(progress ?? {})) {
    must(typeof value !== "number" || Number.isFinite(value), "progress that is no number", text);
  }
}
