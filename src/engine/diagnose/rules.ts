/** The words by which engines say why they end, most telling first, and what each means. */

import type { FailureClass } from "../failure.ts";
import { isVerdict } from "./log-lines.ts";

export interface Rule {
  failure: FailureClass;
  /**
   * How close to the cause such a line is. 0: the cause; 1: the cause, unless a line of rank 0 says
   * otherwise; 2: what often follows from another cause; 3: only that something inside has died.
   */
  rank: 0 | 1 | 2 | 3;
  pattern: RegExp;
  /** In place of the words of the class. */
  words?: string;
  /** In place of the advice of the class. */
  hint?: string;
  /** In place of what the class says. */
  deterministic?: boolean;
  /** The explanation stands in the line after this one. */
  next?: boolean;
}

const ruleOfRank =
  (rank: Rule["rank"]) =>
  (failure: FailureClass, pattern: RegExp, more: Omit<Rule, "failure" | "rank" | "pattern"> = {}) =>
    ({ failure, rank, pattern, ...more }) satisfies Rule;
const cause = ruleOfRank(0);
const likely = ruleOfRank(1);
const sequel = ruleOfRank(2);
const death = ruleOfRank(3);

// As the sources of vLLM, SGLang, TGI, TEI, Ollama, llama.cpp, TensorRT-LLM, LMDeploy, PyTorch,
// huggingface_hub and docker print them in August 2026. Of two rules that fit one line the first
// one counts.
export const RULES: readonly Rule[] = [
  // --- docker, before the engine has a say
  cause("port_in_use", /port is already allocated|ports are not available/i),
  cause(
    "no_gpu",
    /could not select device driver|unknown or invalid runtime name: nvidia|nvidia-container-cli|unresolvable CDI devices/i,
    { words: "docker cannot hand a GPU to the container", deterministic: true },
  ),
  cause(
    "docker",
    /pull access denied|manifest (?:for .* )?(?:unknown|not found)|no such image|repository does not exist|invalid reference format/i,
    {
      words: "the image cannot be pulled",
      hint: "check the image's name and tag; log in to its registry if it is private",
      deterministic: true,
    },
  ),
  cause(
    "docker",
    /cannot connect to the docker daemon|is the docker daemon running|cannot connect to podman/i,
    { words: "the docker daemon is not running", hint: "start it: sudo systemctl start docker" },
  ),
  cause("docker", /permission denied while trying to connect to the docker/i, {
    words: "this user may not use docker",
    hint: "sudo usermod -aG docker $USER, then log in again",
    deterministic: true,
  }),
  cause("docker", /container name "?[^"]*"? is already in use/i, {
    words: "a container of that name exists already",
    hint: "remove it (docker rm -f <name>) or leave --name out of the command",
  }),
  // --- GPU memory
  cause("graph_oom", /capture cuda graph failed|cuda graph capture failed/i),
  cause("gpu_busy", /free memory on device .* is less than desired GPU memory utilization/i),
  cause(
    "kv_too_small",
    /to serve at least one request with the model's max seq len|no available memory for the cache blocks|not enough memory\. please try to increase --mem-fraction-static|not enough memory to handle \d+ (?:prefill )?tokens|failed to allocate (?:the )?(?:buffer for )?kv cache|max seq len \(\d+\) is larger than the maximum number of tokens that can be stored in KV cache|no enough gpu memory for runtime/i,
  ),
  cause(
    "gpu_oom",
    /cuda out of memory|torch\.(?:cuda\.)?OutOfMemoryError|HIP out of memory|cudaMalloc failed|hipMalloc failed|VK_ERROR_OUT_OF_DEVICE_MEMORY|unable to allocate CUDA|CUDA error: out of memory|CUDA_ERROR_OUT_OF_MEMORY|cudaErrorMemoryAllocation|failed to allocate .*(?:CUDA|ROCm|Vulkan|Metal|GPU)|ErrorOutOfDeviceMemory/i,
  ),
  sequel("gpu_oom", /failed to allocate|unable to allocate .* buffer/i),
  // --- the model and how to get it
  cause(
    "gated",
    /GatedRepoError|cannot access gated repo|trying to access a gated repo|access to model .* is restricted|awaiting a review from the repo authors/i,
  ),
  cause(
    "gated",
    /invalid (?:credentials|user token)|download .* failed with status code: ?(?:401|403)|status client error \((?:401|403)/i,
  ),
  cause("bad_flag", /trust[_-]remote[_-]code=True|requires .* trust[_-]remote[_-]code/i, {
    words: "the model brings code of its own, which must be allowed",
    hint: "if you trust it, add --trust-remote-code to the engine's command",
  }),
  cause(
    "no_model",
    /RepositoryNotFoundError|repository not found|is not a local folder and is not a valid model identifier|model ["'`].*["'`] not found|download .* failed with status code: ?404|status client error \(404|RevisionNotFoundError|Repo id must/i,
  ),
  cause(
    "no_model",
    /failed to open GGUF file|gguf_init_from_file: failed to open|model path .* does not exist/i,
    { words: "the model's file cannot be opened" },
  ),
  // Warnings about files that a model may do without look the same: they weigh less.
  likely("gated", /\b(?:401|403) Client Error|HTTP(?: status)? (?:401|403)\b.*huggingface/i),
  likely(
    "no_model",
    /invalid repository ID or local directory|does not appear to have a file named config\.json/i,
  ),
  likely(
    "offline",
    /name or service not known|temporary failure in name resolution|max retries exceeded|LocalEntryNotFoundError|ConnectTimeout|couldn't connect to .*huggingface|outgoing traffic has been disabled|network is unreachable|failed to (?:lookup address|resolve)|could ?n[o']t resolve host|dns error|OfflineModeIsEnabled/i,
  ),
  cause(
    "arch_unsupported",
    /model architectures .* (?:are not supported for now|failed to be inspected)|unknown model architecture|unsupported model (?:type|architecture)|but transformers does not recognize|has no .* implementation .* not supported by|unknown architecture|is not supported by TensorRT-LLM/i,
  ),
  cause(
    "bad_weights",
    /error while deserializing header|invalid magic|model is corrupted or incomplete|not within the file bounds|cannot find any (?:model )?weights|invalidheader|SafetensorError|UnpicklingError|failed to read magic/i,
  ),
  // --- the machine
  cause(
    "port_in_use",
    /address already in use|error while attempting to bind on address|couldn't bind (?:HTTP server socket|to)|failed to bind socket|could not bind TCP listener|port \d+ is (?:not available|in use|already in use)|\bErrno 98\b|EADDRINUSE/i,
  ),
  cause(
    "no_gpu",
    /no CUDA-capable device|found no NVIDIA driver|NVIDIA driver on your system is too old|driver version is insufficient|no CUDA GPUs are available|failed to initialize NVML|failed to infer device type|libcuda\.so\S*: cannot open|CUDA_ERROR_NO_DEVICE|no HIP GPUs are available/i,
  ),
  cause(
    "no_gpu",
    /no kernel image is available|not compatible with the current PyTorch installation/i,
    {
      words: "the engine was not built for this GPU",
      hint: "take a build of the engine for this GPU's compute capability (nvidia-smi --query-gpu=compute_cap --format=csv)",
      deterministic: true,
    },
  ),
  cause(
    "shm",
    /creating shared memory segment|No space left on device.*(?:shm|nccl)|(?:shm|nccl).*No space left on device|insufficient shared memory|out of shared memory/i,
  ),
  cause("disk_full", /no space left on device|disk quota exceeded/i),
  sequel("shm", /ncclSystemError|ncclInternalError|unhandled system error|\bbus error\b/i),
  // --- the command
  cause(
    "bad_flag",
    /error: unrecognized arguments|error: unexpected argument|no such option|error: invalid argument|unknown (?:shorthand )?flag|error: argument \S+|the following arguments are required|error: invalid value|unknown argument|error: ambiguous option|invalid choice:|error: unknown option|error: the following required arguments|unknown command "/i,
  ),
  likely("bad_flag", /validation errors? for \w*(?:Config|Args)\b/i, { next: true }),
  likely(
    "bad_flag",
    /is greater than the derived max_model_len|must be divisible by tensor parallel size|Invalid value for |not divisible by .*(?:tp|tensor)|tensor[_ ]parallel[_ ]size .* larger than/i,
  ),
  likely(
    "missing_program",
    /ModuleNotFoundError: No module named|: No module named |error while loading shared libraries|GLIBC\w*_[\d.]+' not found|executable file not found|: (?:command )?not found$|exec format error|exec: .*: no such file/i,
  ),
  likely(
    "host_oom",
    /DefaultCPUAllocator: (?:can't|not enough)|std::bad_alloc|Cannot allocate memory|fatal error: out of memory|^MemoryError\b|oom-kill|memory allocation of \d+ bytes failed/i,
  ),
  // --- while it ran
  likely(
    "gpu_fault",
    /illegal memory access|uncorrectable ECC|\bNVRM: Xid\b|\bXid \(PCI|device-side assert|unspecified launch failure|GPU (?:has )?fallen off the bus|CUBLAS_STATUS_(?:EXECUTION|INTERNAL)|misaligned address/i,
  ),
  sequel(
    "gpu_fault",
    /NCCL watchdog|Watchdog caught collective operation timeout|ncclUnhandledCudaError/i,
  ),
  death(
    "engine_died",
    /EngineDeadError|EngineCore encountered a fatal error|Worker proc .* died unexpectedly|Scheduler hit an exception|watchdog timeout|Subprocess .* crashed with exit code|Engine core initialization failed|Shard \d+ failed to start|ShardCannotStart|ShardFailed|Download encountered an error|Webserver Crashed|Received sigquit from a child process|Initialization failed\. warmup error/i,
  ),
];

// Looks like trouble and is none, or is put right by the engine itself.
const HARMLESS =
  /FutureWarning|DeprecationWarning|UserWarning|resume_download|retrying without pipeline parallelism|\bretrying in \d|leaked \w+ objects|resource_tracker/i;
// The level that a logger puts near the front of its lines.
const MILD_LEVEL =
  /^.{0,60}?(?<![\w.])(?:INFO|WARNING|WARN|DEBUG|TRACE)\b(?![.=])|level=(?:INFO|WARN|DEBUG)\b/;

/** Whether a line, by its own level or by what is known of it, is no reason to end. */
export function isHarmless(line: string): boolean {
  return HARMLESS.test(line) || MILD_LEVEL.test(line);
}

export interface Cause {
  rule: Rule;
  /** Which line explains it, counted from 0. */
  detail: number;
}

/**
 * The last line of the lowest rank. Where there is none but "something died inside", the exception
 * above it is what it speaks of. Null: no line fits a rule.
 */
export function findCause(lines: readonly string[]): Cause | null {
  let best: Cause | null = null;
  for (const [at, line] of lines.entries()) {
    const rule = ruleOf(line);
    if (!rule || (best && rule.rank > best.rule.rank)) continue;
    best = { rule, detail: rule.next === true && lines[at + 1] !== undefined ? at + 1 : at };
  }
  if (best?.rule.rank !== 3) return best;
  const root = lines
    .slice(0, best.detail + 1)
    .findLastIndex((line) => isVerdict(line) && !isHarmless(line) && ruleOf(line)?.rank !== 3);
  return root < 0 ? best : { rule: best.rule, detail: root };
}

/** Whether a line tells of a known cause. */
export function isTelling(line: string): boolean {
  return ruleOf(line) !== null;
}

function ruleOf(line: string): Rule | null {
  if (isHarmless(line)) return null;
  return RULES.find((rule) => rule.pattern.test(line)) ?? null;
}
