/** What to do about a failure, in the flags of the engine that had it. */

import type { FailureClass } from "../failure.ts";
import type { EngineKind } from "../status.ts";

export interface HintContext {
  kind: EngineKind;
  /** The log's last lines; some name a figure or a repository. */
  lines: readonly string[];
  /** The one that tells the cause. */
  line: string;
  container: { tool: string } | null;
}

type ByKind = Partial<Record<EngineKind, string>> & { other: string };

const MEMORY: ByKind = {
  vllm: "spread it over more GPUs (--tensor-parallel-size), take a quantised model, or lower --max-model-len; nvidia-smi shows who else uses the GPU",
  sglang:
    "spread it over more GPUs (--tp-size), take a quantised model, or lower --mem-fraction-static; nvidia-smi shows who else uses the GPU",
  tgi: "spread it over more GPUs (--num-shard), use --quantize, or lower --max-total-tokens; nvidia-smi shows who else uses the GPU",
  tei: "lower --max-batch-tokens, or take a smaller model",
  ollama: "take a smaller quantisation, or lower OLLAMA_CONTEXT_LENGTH and OLLAMA_NUM_PARALLEL",
  "llama-server":
    "put fewer layers on the GPU (--n-gpu-layers), lower --ctx-size, or take a smaller quantisation",
  trtllm:
    "spread it over more GPUs (--tp_size), or lower --max_batch_size, --max_seq_len or --kv_cache_free_gpu_memory_fraction",
  lmdeploy: "spread it over more GPUs (--tp), or lower --cache-max-entry-count or --session-len",
  other: "take a smaller model or more GPUs; nvidia-smi shows who else uses the GPU",
};

const CONTEXT: ByKind = {
  vllm: "lower --max-model-len, or raise --gpu-memory-utilization",
  sglang: "lower --context-length, or raise --mem-fraction-static",
  tgi: "lower --max-batch-prefill-tokens, --max-input-tokens and --max-total-tokens",
  tei: "lower --max-batch-tokens",
  ollama: "lower OLLAMA_CONTEXT_LENGTH and OLLAMA_NUM_PARALLEL",
  "llama-server": "lower --ctx-size or --parallel, or quantise the cache (--cache-type-k q8_0)",
  trtllm: "lower --max_seq_len or --max_batch_size",
  lmdeploy: "lower --session-len, or raise --cache-max-entry-count",
  other: "ask for a shorter context",
};

const GRAPHS: ByKind = {
  vllm: "add --enforce-eager, or lower --gpu-memory-utilization",
  sglang: "lower --mem-fraction-static or --cuda-graph-max-bs, or add --disable-cuda-graph",
  tgi: "turn them off: --cuda-graphs 0",
  other: "turn CUDA graphs off, or leave more GPU memory free",
};

const PORT_FLAG: ByKind = {
  lmdeploy: "--server-port",
  dynamo: "--http-port",
  ollama: "OLLAMA_HOST=127.0.0.1:<port>",
  other: "--port",
};

/** One line, or nothing where nothing is known to help. */
export function adviseOn(failure: FailureClass, context: HintContext): string {
  const { kind, container } = context;
  const of = (texts: ByKind) => texts[kind] ?? texts.other;
  switch (failure) {
    case "gpu_oom":
      return of(MEMORY);
    case "gpu_busy":
      return "nvidia-smi shows who holds it; end what is left of an earlier engine, or lower --gpu-memory-utilization";
    case "kv_too_small":
      return contextAdvice(of(CONTEXT), context);
    case "graph_oom":
      return of(GRAPHS);
    case "gated":
      return gatedAdvice(context);
    case "no_model":
      return noModelAdvice(context);
    case "bad_weights":
      return "remove the model from the cache and download it again";
    case "offline":
      return "check the machine's network, DNS and proxy, or name a local path; HF_HUB_OFFLINE=1 uses the cache alone";
    case "arch_unsupported":
      return container
        ? "take a newer image of the engine"
        : "upgrade the engine, or take a model that it supports";
    case "port_in_use":
      return portAdvice(of(PORT_FLAG), context);
    case "no_gpu":
      return container
        ? "install the NVIDIA container toolkit, and give the container a GPU: --gpus all"
        : "check the driver with nvidia-smi, and CUDA_VISIBLE_DEVICES";
    case "gpu_fault":
      return "look for Xid errors (dmesg | grep -i xid); if it comes again, reset or leave out this GPU";
    case "shm":
      return container
        ? "add --ipc=host or --shm-size 16g to the container's command"
        : "look at df -h /dev/shm, and at NCCL's own words with NCCL_DEBUG=INFO";
    case "disk_full":
      return "make room (df -h), or move the model cache: HF_HOME, OLLAMA_MODELS, LLAMA_CACHE";
    case "bad_flag":
      return "compare the command with the engine's own --help; flags differ between versions";
    case "missing_program":
      return container
        ? "check the image and what follows its name in the command"
        : "install it, or activate the environment that has it";
    case "docker":
      return "run the same command by hand to see why";
    case "host_oom":
      return container
        ? "give the container more memory (-m), or take a smaller model"
        : "free memory or take a smaller model; dmesg | grep -i 'out of memory' shows what was ended";
    case "start_timeout":
      return "if it only needs longer, raise --start-timeout; the log shows where it stands";
    case "stalled":
      return "the log and nvidia-smi may show what it hangs on; --stall-restart off leaves it as it is";
    case "engine_died":
    case "crash":
      return "";
  }
}

/** vLLM computes what would fit. */
function contextAdvice(advice: string, { kind, lines }: HintContext): string {
  const known = lines.findLast((line) => /estimated maximum model length is/i.test(line));
  const length = /estimated maximum model length is (\d+)/i.exec(known ?? "")?.[1];
  return kind === "vllm" && length !== undefined
    ? `--max-model-len ${length} would fit; or raise --gpu-memory-utilization`
    : advice;
}

function gatedAdvice({ lines, line, container }: HintContext): string {
  const repository = repositoryIn([line, ...lines.toReversed()]);
  const page = repository === null ? "" : ` at https://huggingface.co/${repository}`;
  const token = container ? "-e HF_TOKEN for the container" : "HF_TOKEN in the environment";
  return `accept the licence${page} and give a token that may read it: ${token}`;
}

function noModelAdvice({ kind, line }: HintContext): string {
  const name = /model ["'`]([\w./:-]+)["'`] not found/i.exec(line)?.[1];
  if (kind === "ollama") return `get it first: ollama pull ${name ?? "<model>"}`;
  return "check its spelling, and that a path exists here (in a container: is mounted); a private one needs HF_TOKEN";
}

function portAdvice(flag: string, { line, container }: HintContext): string {
  // `port: 8080`, `('0.0.0.0', 8000)`, `127.0.0.1:11434: bind`; not the number in `[Errno 98]`.
  const port = /\bport:? (\d{2,5})\b|', (\d{2,5})\)|\w:(\d{2,5})(?![\d.])/i.exec(line);
  const number = port?.[1] ?? port?.[2] ?? port?.[3];
  const find = number === undefined ? "ss -ltnp" : `ss -ltnp 'sport = :${number}'`;
  const other = container ? "publish another one: -p" : `take another one: ${flag}`;
  return `${find} shows who has it; or ${other}`;
}

function repositoryIn(lines: readonly string[]): string | null {
  // `org/name` or an old model's bare name; not the hub's own pages.
  const url =
    /huggingface\.co\/(?:api\/models\/)?((?!(?:models|docs|api|settings)\b)[\w.-]+(?:\/(?!resolve\b|tree\b|blob\b)[\w.-]+)?)/;
  for (const line of lines) {
    const found = url.exec(line)?.[1];
    if (found !== undefined) return found.replace(/\.+$/, "");
  }
  return null;
}
