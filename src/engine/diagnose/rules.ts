/** The words by which engines say why they end, most telling first, and what each means. */

import type { FailureClass } from "../failure.ts";

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

/** What a class means, and whether trying again is of no use. */
export const CLASSES: Readonly<Record<FailureClass, { words: string; deterministic: boolean }>> = {
  gpu_oom: { words: "the model does not fit into GPU memory", deterministic: false },
  gpu_busy: { words: "other processes use the GPU memory it needs", deterministic: false },
  kv_too_small: {
    words: "too little GPU memory is left for the context length",
    deterministic: true,
  },
  graph_oom: { words: "GPU memory ran out while CUDA graphs were captured", deterministic: false },
  gated: { words: "access to the model is refused", deterministic: true },
  no_model: { words: "there is no such model", deterministic: true },
  bad_weights: { words: "the model's files are damaged or incomplete", deterministic: true },
  offline: { words: "the model hub cannot be reached", deterministic: false },
  arch_unsupported: {
    words: "this version of the engine does not know this kind of model",
    deterministic: true,
  },
  port_in_use: { words: "its port is taken", deterministic: false },
  no_gpu: { words: "no usable GPU found", deterministic: false },
  gpu_fault: { words: "the GPU failed", deterministic: false },
  shm: {
    words: "its processes cannot share memory (NCCL or /dev/shm)",
    deterministic: false,
  },
  disk_full: { words: "the disk is full", deterministic: false },
  bad_flag: { words: "its command line was rejected", deterministic: true },
  missing_program: { words: "a program or library is missing", deterministic: true },
  docker: { words: "the container cannot be started", deterministic: false },
  host_oom: { words: "memory ran out (not the GPU's)", deterministic: false },
  engine_died: { words: "an engine process died", deterministic: false },
  stalled: { words: "it stopped producing output", deterministic: false },
  start_timeout: { words: "no progress while starting", deterministic: false },
  crash: { words: "it crashed", deterministic: false },
};

// As the sources of vLLM, SGLang, TGI, TEI, Ollama, llama.cpp, TensorRT-LLM, LMDeploy, PyTorch,
// huggingface_hub and docker print them in August 2026. Of two rules that fit one line the first
// one counts.
export const RULES: readonly Rule[] = [
  // --- docker, before the engine has a say
  {
    failure: "port_in_use",
    rank: 0,
    pattern: /port is already allocated|ports are not available/i,
  },
  {
    failure: "no_gpu",
    rank: 0,
    pattern:
      /could not select device driver|unknown or invalid runtime name: nvidia|nvidia-container-cli|unresolvable CDI devices/i,
    words: "docker cannot hand a GPU to the container",
    deterministic: true,
  },
  {
    failure: "docker",
    rank: 0,
    pattern:
      /pull access denied|manifest (?:for .* )?(?:unknown|not found)|no such image|repository does not exist|invalid reference format/i,
    words: "the image cannot be pulled",
    hint: "check the image's name and tag; log in to its registry if it is private",
    deterministic: true,
  },
  {
    failure: "docker",
    rank: 0,
    pattern:
      /cannot connect to the docker daemon|is the docker daemon running|cannot connect to podman/i,
    words: "the docker daemon is not running",
    hint: "start it: sudo systemctl start docker",
  },
  {
    failure: "docker",
    rank: 0,
    pattern: /permission denied while trying to connect to the docker/i,
    words: "this user may not use docker",
    hint: "sudo usermod -aG docker $USER, then log in again",
    deterministic: true,
  },
  {
    failure: "docker",
    rank: 0,
    pattern: /container name "?[^"]*"? is already in use/i,
    words: "a container of that name exists already",
    hint: "remove it (docker rm -f <name>) or leave --name out of the command",
  },
  // --- GPU memory
  {
    failure: "graph_oom",
    rank: 0,
    pattern: /capture cuda graph failed|cuda graph capture failed/i,
  },
  {
    failure: "gpu_busy",
    rank: 0,
    pattern: /free memory on device .* is less than desired GPU memory utilization/i,
  },
  {
    failure: "kv_too_small",
    rank: 0,
    pattern:
      /to serve at least one request with the model's max seq len|no available memory for the cache blocks|not enough memory\. please try to increase --mem-fraction-static|not enough memory to handle \d+ (?:prefill )?tokens|failed to allocate (?:the )?(?:buffer for )?kv cache|max seq len \(\d+\) is larger than the maximum number of tokens that can be stored in KV cache|no enough gpu memory for runtime/i,
  },
  {
    failure: "gpu_oom",
    rank: 0,
    pattern:
      /cuda out of memory|torch\.(?:cuda\.)?OutOfMemoryError|HIP out of memory|cudaMalloc failed|hipMalloc failed|VK_ERROR_OUT_OF_DEVICE_MEMORY|unable to allocate CUDA|CUDA error: out of memory|CUDA_ERROR_OUT_OF_MEMORY|cudaErrorMemoryAllocation|failed to allocate .*(?:CUDA|ROCm|Vulkan|Metal|GPU)|ErrorOutOfDeviceMemory/i,
  },
  { failure: "gpu_oom", rank: 2, pattern: /failed to allocate|unable to allocate .* buffer/i },
  // --- the model and how to get it
  {
    failure: "gated",
    rank: 0,
    pattern:
      /GatedRepoError|cannot access gated repo|trying to access a gated repo|access to model .* is restricted|awaiting a review from the repo authors/i,
  },
  {
    failure: "gated",
    rank: 0,
    pattern:
      /invalid (?:credentials|user token)|download .* failed with status code: ?(?:401|403)|status client error \((?:401|403)/i,
  },
  {
    failure: "bad_flag",
    rank: 0,
    pattern: /trust[_-]remote[_-]code=True|requires .* trust[_-]remote[_-]code/i,
    words: "the model brings code of its own, which must be allowed",
    hint: "if you trust it, add --trust-remote-code to the engine's command",
  },
  {
    failure: "no_model",
    rank: 0,
    pattern:
      /RepositoryNotFoundError|repository not found|is not a local folder and is not a valid model identifier|model ["'`].*["'`] not found|download .* failed with status code: ?404|status client error \(404|RevisionNotFoundError|Repo id must/i,
  },
  {
    failure: "no_model",
    rank: 0,
    pattern:
      /failed to open GGUF file|gguf_init_from_file: failed to open|model path .* does not exist/i,
    words: "the model's file cannot be opened",
  },
  // Warnings about files that a model may do without look the same: they weigh less.
  {
    failure: "gated",
    rank: 1,
    pattern: /\b(?:401|403) Client Error|HTTP(?: status)? (?:401|403)\b.*huggingface/i,
  },
  {
    failure: "no_model",
    rank: 1,
    pattern:
      /invalid repository ID or local directory|does not appear to have a file named config\.json/i,
  },
  {
    failure: "offline",
    rank: 1,
    pattern:
      /name or service not known|temporary failure in name resolution|max retries exceeded|LocalEntryNotFoundError|ConnectTimeout|couldn't connect to .*huggingface|outgoing traffic has been disabled|network is unreachable|failed to (?:lookup address|resolve)|could ?n[o']t resolve host|dns error|OfflineModeIsEnabled/i,
  },
  {
    failure: "arch_unsupported",
    rank: 0,
    pattern:
      /model architectures .* (?:are not supported for now|failed to be inspected)|unknown model architecture|unsupported model (?:type|architecture)|but transformers does not recognize|has no .* implementation .* not supported by|unknown architecture|is not supported by TensorRT-LLM/i,
  },
  {
    failure: "bad_weights",
    rank: 0,
    pattern:
      /error while deserializing header|invalid magic|model is corrupted or incomplete|not within the file bounds|cannot find any (?:model )?weights|invalidheader|SafetensorError|UnpicklingError|failed to read magic/i,
  },
  // --- the machine
  {
    failure: "port_in_use",
    rank: 0,
    pattern:
      /address already in use|error while attempting to bind on address|couldn't bind (?:HTTP server socket|to)|failed to bind socket|could not bind TCP listener|port \d+ is (?:not available|in use|already in use)|\bErrno 98\b|EADDRINUSE/i,
  },
  {
    failure: "no_gpu",
    rank: 0,
    pattern:
      /no CUDA-capable device|found no NVIDIA driver|NVIDIA driver on your system is too old|driver version is insufficient|no CUDA GPUs are available|failed to initialize NVML|failed to infer device type|libcuda\.so\S*: cannot open|CUDA_ERROR_NO_DEVICE|no HIP GPUs are available/i,
  },
  {
    failure: "no_gpu",
    rank: 0,
    pattern: /no kernel image is available|not compatible with the current PyTorch installation/i,
    words: "the engine was not built for this GPU",
    hint: "take a build of the engine for this GPU's compute capability (nvidia-smi --query-gpu=compute_cap --format=csv)",
    deterministic: true,
  },
  {
    failure: "shm",
    rank: 0,
    pattern:
      /creating shared memory segment|No space left on device.*(?:shm|nccl)|(?:shm|nccl).*No space left on device|insufficient shared memory|out of shared memory/i,
  },
  { failure: "disk_full", rank: 0, pattern: /no space left on device|disk quota exceeded/i },
  {
    failure: "shm",
    rank: 2,
    pattern: /ncclSystemError|ncclInternalError|unhandled system error|\bbus error\b/i,
  },
  // --- the command
  {
    failure: "bad_flag",
    rank: 0,
    pattern:
      /error: unrecognized arguments|error: unexpected argument|no such option|error: invalid argument|unknown (?:shorthand )?flag|error: argument \S+|the following arguments are required|error: invalid value|unknown argument|error: ambiguous option|invalid choice:|error: unknown option|error: the following required arguments|unknown command "/i,
  },
  {
    failure: "bad_flag",
    rank: 1,
    pattern: /validation errors? for \w*(?:Config|Args)\b/i,
    next: true,
  },
  {
    failure: "bad_flag",
    rank: 1,
    pattern:
      /is greater than the derived max_model_len|must be divisible by tensor parallel size|Invalid value for |not divisible by .*(?:tp|tensor)|tensor[_ ]parallel[_ ]size .* larger than/i,
  },
  {
    failure: "missing_program",
    rank: 1,
    pattern:
      /ModuleNotFoundError: No module named|: No module named |error while loading shared libraries|GLIBC\w*_[\d.]+' not found|executable file not found|: (?:command )?not found$|exec format error|exec: .*: no such file/i,
  },
  {
    failure: "host_oom",
    rank: 1,
    pattern:
      /DefaultCPUAllocator: (?:can't|not enough)|std::bad_alloc|Cannot allocate memory|fatal error: out of memory|^MemoryError\b|oom-kill|memory allocation of \d+ bytes failed/i,
  },
  // --- while it ran
  {
    failure: "gpu_fault",
    rank: 1,
    pattern:
      /illegal memory access|uncorrectable ECC|\bNVRM: Xid\b|\bXid \(PCI|device-side assert|unspecified launch failure|GPU (?:has )?fallen off the bus|CUBLAS_STATUS_(?:EXECUTION|INTERNAL)|misaligned address/i,
  },
  {
    failure: "gpu_fault",
    rank: 2,
    pattern: /NCCL watchdog|Watchdog caught collective operation timeout|ncclUnhandledCudaError/i,
  },
  {
    failure: "engine_died",
    rank: 3,
    pattern:
      /EngineDeadError|EngineCore encountered a fatal error|Worker proc .* died unexpectedly|Scheduler hit an exception|watchdog timeout|Subprocess .* crashed with exit code|Engine core initialization failed|Shard \d+ failed to start|ShardCannotStart|ShardFailed|Download encountered an error|Webserver Crashed|Received sigquit from a child process|Initialization failed\. warmup error/i,
  },
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
