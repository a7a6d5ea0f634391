/** What engines print when their start fails, as their sources have it in August 2026. */

import { LlmnodeError } from "../protocol/errors.ts";
import type { Fail, Like, SimOptions } from "./core/options.ts";

type Texts = Partial<Record<Fail, string>>;

/** When in its load an engine fails, as a share of the whole; what is not here: before it. */
const FAILS_AT: Partial<Record<Fail, number>> = {
  gpu_oom: 0.3,
  bad_weights: 0.1,
  shm: 0.05,
  kv_too_small: 0.78,
  graph_oom: 0.8,
};

const STAMP = "11-21 03:04:05";
const HUB = "huggingface_hub.errors";

/** The hub's words are the same in every Python engine; `%` is the model. */
const PYTHON: Texts = {
  gated: `Traceback (most recent call last):
${HUB}.GatedRepoError: 401 Client Error. (Request ID: Root=1-0)
Cannot access gated repo for url https://huggingface.co/%/resolve/main/config.json.
Access to model % is restricted. You must have access to it and be authenticated to access it. Please log in.
The above exception was the direct cause of the following exception:
OSError: You are trying to access a gated repo.
Make sure to have access to it at https://huggingface.co/%.`,
  no_model: `Traceback (most recent call last):
${HUB}.RepositoryNotFoundError: 401 Client Error. (Request ID: Root=1-0)
Repository Not Found for url: https://huggingface.co/api/models/%.
OSError: % is not a local folder and is not a valid model identifier listed on 'https://huggingface.co/models'
If this is a private repository, make sure to pass a token having permission to this repo.`,
  offline: `requests.exceptions.ConnectionError: (MaxRetryError("HTTPSConnectionPool(host='huggingface.co', port=443): Max retries exceeded with url: /api/models/% (Caused by NameResolutionError: Failed to resolve 'huggingface.co' ([Errno -2] Name or service not known))"))
${HUB}.LocalEntryNotFoundError: An error happened while trying to locate the file on the Hub and we cannot find the requested files in the local cache.`,
  bad_weights: "safetensors_rust.SafetensorError: Error while deserializing header: HeaderTooLarge",
  disk_full: "OSError: [Errno 28] No space left on device: '/root/.cache/huggingface/hub/tmp0'",
  shm: `torch.distributed.DistBackendError: NCCL error in: ProcessGroupNCCL.cpp:3356, unhandled system error (run with NCCL_DEBUG=INFO for details)
Error while creating shared memory segment /dev/shm/nccl-Sim (size 9637888), error: No space left on device (28)`,
};

const TEXTS: Readonly<Record<Like, Texts>> = {
  vllm: {
    ...PYTHON,
    gpu_oom: `(EngineCore pid=7) ERROR ${STAMP} [core.py:708] EngineCore failed to start.
(EngineCore pid=7) ERROR ${STAMP} [core.py:708] Traceback (most recent call last):
(EngineCore pid=7) ERROR ${STAMP} [core.py:708] torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 896.00 MiB. GPU 0 has a total capacity of 23.52 GiB of which 412.06 MiB is free.
(APIServer pid=1) RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}`,
    gpu_busy: `(EngineCore pid=7) ERROR ${STAMP} [core.py:708] ValueError: Free memory on device (3.1/23.52 GiB) on startup is less than desired GPU memory utilization (0.9, 21.17 GiB). Decrease GPU memory utilization or reduce GPU memory used by other processes.
(APIServer pid=1) RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}`,
    kv_too_small: `(EngineCore pid=7) ERROR ${STAMP} [core.py:708] ValueError: To serve at least one request with the model's max seq len (131072), (16.00 GiB KV cache is needed, which is larger than the available KV cache memory (9.20 GiB). Based on the available memory, the estimated maximum model length is 75344. Try increasing \`gpu_memory_utilization\` or decreasing \`max_model_len\` when initializing the engine.
(APIServer pid=1) RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}`,
    arch_unsupported: `(APIServer pid=1) pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig
(APIServer pid=1)   Value error, Model architectures ['NewForCausalLM'] are not supported for now. Supported architectures: dict_keys(['AquilaModel'])`,
    port_in_use: "(APIServer pid=1) OSError: [Errno 98] Address already in use",
    no_gpu:
      "RuntimeError: Failed to infer device type, please set the environment variable `VLLM_LOGGING_LEVEL=DEBUG` to turn on verbose logging to help debug the issue.",
    bad_flag: `usage: vllm serve [model_tag] [options]
vllm: error: unrecognized arguments: --simulated`,
    missing_program: "/usr/bin/python3: No module named vllm",
  },
  sglang: {
    ...PYTHON,
    gpu_oom: `[2026-11-21 03:04:05 TP0] Scheduler hit an exception: Traceback (most recent call last):
torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.25 GiB.
[2026-11-21 03:04:05] Received sigquit from a child process. It usually means the child failed.`,
    kv_too_small: `[2026-11-21 03:04:05 TP0] Scheduler hit an exception: Traceback (most recent call last):
RuntimeError: Not enough memory. Please try to increase --mem-fraction-static. Current value: self.server_args.mem_fraction_static=0.5
[2026-11-21 03:04:05] Received sigquit from a child process. It usually means the child failed.`,
    graph_oom: `Exception: Capture cuda graph failed: CUDA out of memory. Tried to allocate 2.00 MiB.
Possible solutions:
1. set --mem-fraction-static to a smaller value (e.g., 0.8 or 0.7)
[2026-11-21 03:04:05] Received sigquit from a child process. It usually means the child failed.`,
    arch_unsupported:
      "ValueError: The checkpoint you are trying to load has model type `new` but Transformers does not recognize this architecture.",
    port_in_use:
      "ERROR:    [Errno 98] error while attempting to bind on address ('127.0.0.1', 30000): address already in use",
    no_gpu: "RuntimeError: CUDA error: no kernel image is available for execution on the device",
    bad_flag: "launch_server.py: error: unrecognized arguments: --simulated",
    missing_program: "/usr/bin/python3: No module named sglang.launch_server",
  },
  tgi: {
    gated: `2026-11-21T03:04:05.1Z ERROR download: text_generation_launcher: Download encountered an error:
requests.exceptions.HTTPError: 403 Client Error: Forbidden for url: https://huggingface.co/api/models/%
Error: DownloadError`,
    no_model: `2026-11-21T03:04:05.1Z ERROR download: text_generation_launcher: Download encountered an error:
${HUB}.RepositoryNotFoundError: 401 Client Error. Repository Not Found for url: https://huggingface.co/api/models/%.
Error: DownloadError`,
    gpu_oom: `2026-11-21T03:04:05.1Z ERROR shard-manager: text_generation_launcher: Shard complete standard error output:
torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 64.00 MiB. rank=0
2026-11-21T03:04:05.1Z ERROR text_generation_launcher: Shard 0 failed to start
2026-11-21T03:04:05.1Z  INFO text_generation_launcher: Shutting down shards
Error: ShardCannotStart`,
    kv_too_small: `RuntimeError: Not enough memory to handle 4096 prefill tokens. You need to decrease \`--max-batch-prefill-tokens\`
Error: WebserverFailed`,
    arch_unsupported: `NotImplementedError: Unsupported model type new_type
Error: ShardCannotStart`,
    bad_flag: "error: unexpected argument '--simulated' found",
    port_in_use: "Error: Could not start the webserver: Address already in use (os error 98)",
  },
  ollama: {
    no_model: 'Error: model "%" not found, try pulling it first',
    port_in_use: "Error: listen tcp 127.0.0.1:11434: bind: address already in use",
    bad_flag: "Error: unknown flag: --simulated",
  },
  "llama-server": {
    gpu_oom: `ggml_backend_cuda_buffer_type_alloc_buffer: allocating 30114.00 MiB on device 0: cudaMalloc failed: out of memory
llama_model_load: error loading model: unable to allocate CUDA0 buffer
srv    load_model: failed to load model, '%'
main: exiting due to model loading error`,
    kv_too_small:
      "llama_init_from_model: failed to initialize the context: failed to allocate buffer for kv cache",
    gated: "common_download_file_single_online: Download '%' failed with status code: 401",
    no_model: `gguf_init_from_file: failed to open GGUF file '%' (No such file or directory)
main: exiting due to model loading error`,
    bad_weights:
      "llama_model_load: error loading model: tensor 'blk.9.ffn_up.weight' data is not within the file bounds, model is corrupted or incomplete",
    arch_unsupported:
      "llama_model_load: error loading model: error loading model architecture: unknown model architecture: 'new2'",
    port_in_use:
      "srv          start: couldn't bind HTTP server socket, hostname: 127.0.0.1, port: 8080",
    bad_flag: "error: invalid argument: --simulated",
    missing_program:
      "llama-server: error while loading shared libraries: libcudart.so.12: cannot open shared object file: No such file or directory",
  },
};

/** Throws `usage` for what this kind of engine does not say. */
export function failureToPlay(options: SimOptions) {
  const { fail, like, exitCode } = options;
  if (fail === null) return null;
  const text = TEXTS[like][fail];
  if (text === undefined) {
    const known = Object.keys(TEXTS[like]).join(", ");
    throw new LlmnodeError("usage", `an engine like ${like} fails with one of ${known}`);
  }
  return {
    lines: text.replaceAll("%", options.models[0] ?? "").split("\n"),
    /** The share of the load after which it comes. */
    at: FAILS_AT[fail] ?? 0,
    exitCode: exitCode ?? usualCode(fail, like),
  };
}

function usualCode(fail: Fail, like: Like): number {
  if (fail === "bad_flag") return like === "ollama" || like === "llama-server" ? 1 : 2;
  if (fail === "missing_program") return like === "llama-server" ? 127 : 1;
  // Its scheduler's failure makes the parent kill its whole tree, itself included.
  const isInside = fail === "gpu_oom" || fail === "kv_too_small" || fail === "graph_oom";
  return like === "sglang" && isInside ? 137 : 1;
}
