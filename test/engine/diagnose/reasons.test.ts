import { describe, expect, test } from "bun:test";
import type { FailureClass } from "../../../src/engine/failure.ts";
import { explainFailure, type EngineEnding } from "../../../src/engine/diagnose/reasons.ts";
import { isHarmless } from "../../../src/engine/diagnose/rules.ts";
import type { EngineKind } from "../../../src/engine/status.ts";

const exited = (code: number) => ({ code, signal: null });
const killed = (signal: string) => ({ code: null, signal });

function explain(kind: EngineKind, lines: string | string[], more: Partial<EngineEnding> = {}) {
  const failure = explainFailure({
    kind,
    lines: Array.isArray(lines) ? lines : lines.split("\n"),
    exit: exited(1),
    container: null,
    ...more,
  });
  if (failure === null) throw new Error("an exit is always explained");
  return failure;
}

/** Kind, class, log, words of the reason, words of the hint. */
type Row = [EngineKind, FailureClass, string, string, string];

const vllmOom = `(EngineCore pid=712) INFO 11-21 03:04:05 [gpu_model_runner.py:2653] Starting to load model org/big...
(EngineCore pid=712) ERROR 11-21 03:04:45 [core.py:708] EngineCore failed to start.
(EngineCore pid=712) ERROR 11-21 03:04:45 [core.py:708] Traceback (most recent call last):
(EngineCore pid=712) ERROR 11-21 03:04:45 [core.py:708]   File "vllm/v1/engine/core.py", line 699, in run_engine_core
(EngineCore pid=712) ERROR 11-21 03:04:45 [core.py:708] torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 896.00 MiB. GPU 0 has a total capacity of 23.52 GiB of which 412.06 MiB is free.
(EngineCore pid=712) Process EngineCore:
(APIServer pid=1) Traceback (most recent call last):
(APIServer pid=1)   File "vllm/entrypoints/cli/main.py", line 73, in main
(APIServer pid=1) RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}`;

const table: Row[] = [
  ["vllm", "gpu_oom", vllmOom, "into GPU memory: torch.OutOfMemoryError: CUDA", "--max-model-len"],
  [
    "sglang",
    "gpu_oom",
    `[2026-11-21 03:04:05 TP0] Load weight begin. avail mem=22.90 GB
[2026-11-21 03:04:09 TP0] Scheduler hit an exception: Traceback (most recent call last):
  File "sglang/srt/managers/scheduler.py", line 2564, in run_scheduler_process
torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.25 GiB.

[2026-11-21 03:04:09] Received sigquit from a child process. It usually means the child failed.`,
    "CUDA out of memory. Tried",
    "--mem-fraction-static",
  ],
  [
    "tgi",
    "gpu_oom",
    `2026-11-21T03:04:05.123456Z  INFO text_generation_launcher: Starting shard
2026-11-21T03:04:35.123456Z ERROR shard-manager: text_generation_launcher: Shard complete standard error output:

torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 64.00 MiB. rank=0
2026-11-21T03:04:36.123456Z ERROR text_generation_launcher: Shard 0 failed to start
2026-11-21T03:04:36.123456Z  INFO text_generation_launcher: Shutting down shards
Error: ShardCannotStart`,
    "CUDA out of memory",
    "--num-shard",
  ],
  [
    "llama-server",
    "gpu_oom",
    `ggml_backend_cuda_buffer_type_alloc_buffer: allocating 30114.00 MiB on device 0: cudaMalloc failed: out of memory
alloc_tensor_range: failed to allocate CUDA0 buffer of size 31576555520
llama_model_load: error loading model: unable to allocate CUDA0 buffer
srv    load_model: failed to load model, '/models/big.gguf'
main: exiting due to model loading error`,
    "unable to allocate CUDA0 buffer",
    "--n-gpu-layers",
  ],
  [
    "vllm",
    "gpu_busy",
    `(EngineCore pid=9) ERROR 11-21 03:04:45 [core.py:708] ValueError: Free memory on device (3.1/23.52 GiB) on startup is less than desired GPU memory utilization (0.9, 21.17 GiB). Decrease GPU memory utilization or reduce GPU memory used by other processes.
(APIServer pid=1) RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}`,
    "other processes use the GPU memory",
    "nvidia-smi",
  ],
  [
    "vllm",
    "kv_too_small",
    `(EngineCore pid=9) ERROR 11-21 03:04:45 [core.py:708] ValueError: To serve at least one request with the model's max seq len (131072), (16.00 GiB KV cache is needed, which is larger than the available KV cache memory (9.20 GiB). Based on the available memory, the estimated maximum model length is 75344. Try increasing \`gpu_memory_utilization\` or decreasing \`max_model_len\` when initializing the engine.
(APIServer pid=1) RuntimeError: Engine core initialization failed. See root cause above.`,
    "too little GPU memory is left for the context length",
    "--max-model-len 75344",
  ],
  [
    "sglang",
    "kv_too_small",
    "RuntimeError: Not enough memory. Please try to increase --mem-fraction-static. Current value: self.server_args.mem_fraction_static=0.5",
    "Not enough memory",
    "--context-length",
  ],
  [
    "tgi",
    "kv_too_small",
    "RuntimeError: Not enough memory to handle 4096 prefill tokens. You need to decrease `--max-batch-prefill-tokens`",
    "4096 prefill tokens",
    "--max-batch-prefill-tokens",
  ],
  [
    "llama-server",
    "kv_too_small",
    "llama_init_from_model: failed to initialize the context: failed to allocate buffer for kv cache",
    "kv cache",
    "--ctx-size",
  ],
  [
    "sglang",
    "graph_oom",
    `Exception: Capture cuda graph failed: CUDA out of memory. Tried to allocate 2.00 MiB.
Possible solutions:
1. set --mem-fraction-static to a smaller value (e.g., 0.8 or 0.7)
[2026-11-21 03:04:09] Received sigquit from a child process. It usually means the child failed.`,
    "CUDA graphs were captured",
    "--disable-cuda-graph",
  ],
  [
    "vllm",
    "gated",
    `huggingface_hub.errors.GatedRepoError: 401 Client Error. (Request ID: Root=1-68)
Cannot access gated repo for url https://huggingface.co/meta-llama/Llama-3.1-8B/resolve/main/config.json.
Access to model meta-llama/Llama-3.1-8B is restricted. You must have access to it and be authenticated to access it. Please log in.
The above exception was the direct cause of the following exception:
OSError: You are trying to access a gated repo.
Make sure to have access to it at https://huggingface.co/meta-llama/Llama-3.1-8B.`,
    "access to the model is refused",
    "https://huggingface.co/meta-llama/Llama-3.1-8B and",
  ],
  [
    "tgi",
    "gated",
    `2026-11-21T03:04:05.1Z ERROR download: text_generation_launcher: Download encountered an error:
requests.exceptions.HTTPError: 403 Client Error: Forbidden for url: https://huggingface.co/api/models/org/secret
Error: DownloadError`,
    "403 Client Error",
    "HF_TOKEN",
  ],
  [
    "llama-server",
    "gated",
    "common_download_file_single_online: Download 'x.gguf' failed with status code: 401",
    "status code: 401",
    "HF_TOKEN",
  ],
  [
    "vllm",
    "no_model",
    `huggingface_hub.errors.RepositoryNotFoundError: 401 Client Error. (Request ID: Root=1-68)
Repository Not Found for url: https://huggingface.co/api/models/org/typo.
Please make sure you specified the correct \`repo_id\` and \`repo_type\`.
OSError: org/typo is not a local folder and is not a valid model identifier listed on 'https://huggingface.co/models'
If this is a private repository, make sure to pass a token having permission to this repo.`,
    "org/typo is not a local folder",
    "spelling",
  ],
  [
    "ollama",
    "no_model",
    'Error: model "llama9" not found, try pulling it first',
    "no such model",
    "ollama pull llama9",
  ],
  [
    "llama-server",
    "no_model",
    `gguf_init_from_file: failed to open GGUF file '/models/none.gguf' (No such file or directory)
llama_model_load: error loading model: llama_model_loader: failed to load model from /models/none.gguf
main: exiting due to model loading error`,
    "cannot be opened",
    "path exists",
  ],
  [
    "llama-server",
    "bad_weights",
    "llama_model_load: error loading model: tensor 'blk.9.ffn_up.weight' data is not within the file bounds, model is corrupted or incomplete",
    "damaged or incomplete",
    "download it again",
  ],
  [
    "vllm",
    "bad_weights",
    "safetensors_rust.SafetensorError: Error while deserializing header: HeaderTooLarge",
    "HeaderTooLarge",
    "download it again",
  ],
  [
    "vllm",
    "offline",
    `urllib3.exceptions.NameResolutionError: <HTTPSConnection>: Failed to resolve 'huggingface.co' ([Errno -2] Name or service not known)
requests.exceptions.ConnectionError: (MaxRetryError("HTTPSConnectionPool(host='huggingface.co', port=443): Max retries exceeded with url: /api/models/org/m"), '(Request ID: 4)')
huggingface_hub.errors.LocalEntryNotFoundError: An error happened while trying to locate the file on the Hub and we cannot find the requested files in the local cache.`,
    "the model hub cannot be reached",
    "HF_HUB_OFFLINE",
  ],
  [
    "tei",
    "offline",
    "Error: Could not download model artifacts: request error: dns error: failed to lookup address information: Temporary failure in name resolution",
    "name resolution",
    "proxy",
  ],
  [
    "vllm",
    "arch_unsupported",
    `(APIServer pid=1) pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig
(APIServer pid=1)   Value error, Model architectures ['NewForCausalLM'] are not supported for now. Supported architectures: dict_keys(['AquilaModel'])`,
    "NewForCausalLM",
    "upgrade the engine",
  ],
  [
    "llama-server",
    "arch_unsupported",
    "llama_model_load: error loading model: error loading model architecture: unknown model architecture: 'new2'",
    "unknown model architecture: 'new2'",
    "upgrade",
  ],
  [
    "sglang",
    "arch_unsupported",
    "ValueError: The checkpoint you are trying to load has model type `new` but Transformers does not recognize this architecture.",
    "does not know this kind of model",
    "upgrade",
  ],
  [
    "tgi",
    "arch_unsupported",
    `NotImplementedError: Unsupported model type new_type
Error: ShardCannotStart`,
    "new_type",
    "upgrade",
  ],
  [
    "trtllm",
    "port_in_use",
    "RuntimeError: Failed to bind socket to localhost:8000: [Errno 98] Address already in use",
    "its port is taken",
    "sport = :8000",
  ],
  [
    "vllm",
    "port_in_use",
    `(APIServer pid=1) OSError: [Errno 98] Address already in use`,
    "Address already in use",
    "--port",
  ],
  [
    "generic",
    "port_in_use",
    "ERROR:    [Errno 98] error while attempting to bind on address ('0.0.0.0', 8000): address already in use",
    "its port is taken: [Errno 98]",
    "sport = :8000",
  ],
  [
    "llama-server",
    "port_in_use",
    "srv          start: couldn't bind HTTP server socket, hostname: 127.0.0.1, port: 8080",
    "8080",
    "sport = :8080",
  ],
  [
    "ollama",
    "port_in_use",
    "Error: listen tcp 127.0.0.1:11434: bind: address already in use",
    "11434",
    "OLLAMA_HOST",
  ],
  ["tei", "port_in_use", "Error: Could not bind TCP Listener", "TCP Listener", "ss -ltnp"],
  [
    "lmdeploy",
    "port_in_use",
    "ERROR:    [Errno 98] error while attempting to bind on address ('0.0.0.0', 23333): address already in use",
    "taken",
    "--server-port",
  ],
  [
    "vllm",
    "no_gpu",
    `/opt/torch/cuda/__init__.py:174: UserWarning: CUDA initialization: Found no NVIDIA driver on your system.
RuntimeError: Failed to infer device type, please set the environment variable VLLM_LOGGING_LEVEL=DEBUG`,
    "no usable GPU found",
    "nvidia-smi",
  ],
  [
    "sglang",
    "no_gpu",
    "RuntimeError: CUDA error: no kernel image is available for execution on the device",
    "was not built for this GPU",
    "compute_cap",
  ],
  [
    "vllm",
    "shm",
    `torch.distributed.DistBackendError: NCCL error in: ProcessGroupNCCL.cpp:3356, unhandled system error (run with NCCL_DEBUG=INFO for details)
ncclSystemError: System call (e.g. socket, malloc) or external library call failed or device error.
Last error:
Error while creating shared memory segment /dev/shm/nccl-Xx1 (size 9637888), error: No space left on device (28)`,
    "/dev/shm/nccl-Xx1",
    "/dev/shm",
  ],
  [
    "sglang",
    "disk_full",
    "OSError: [Errno 28] No space left on device: '/root/.cache/huggingface/hub/tmp1'",
    "the disk is full",
    "HF_HOME",
  ],
  [
    "vllm",
    "bad_flag",
    `usage: vllm serve [model_tag] [options]
vllm: error: unrecognized arguments: --max-len`,
    "unrecognized arguments: --max-len",
    "--help",
  ],
  ["tgi", "bad_flag", "error: unexpected argument '--foo' found", "--foo", "--help"],
  ["trtllm", "bad_flag", "Error: No such option: --tensor-parallel", "No such option", "--help"],
  ["llama-server", "bad_flag", "error: invalid argument: --foo", "--foo", "--help"],
  [
    "vllm",
    "bad_flag",
    `(APIServer pid=1) pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig
(APIServer pid=1)   Value error, User-specified max_model_len (999999) is greater than the derived max_model_len`,
    "User-specified max_model_len (999999)",
    "--help",
  ],
  [
    "vllm",
    "bad_flag",
    "ValueError: Loading org/m requires you to execute the configuration file in that repo on your local machine. Please pass the argument `trust_remote_code=True` to allow custom code to be run.",
    "code of its own",
    "--trust-remote-code",
  ],
  [
    "vllm",
    "missing_program",
    "/usr/bin/python3: No module named vllm",
    "No module named vllm",
    "environment",
  ],
  [
    "llama-server",
    "missing_program",
    "llama-server: error while loading shared libraries: libcudart.so.12: cannot open shared object file: No such file or directory",
    "libcudart.so.12",
    "install",
  ],
  [
    "vllm",
    "gpu_fault",
    `(EngineCore pid=9) ERROR 11-21 03:04:45 [core.py:720] EngineCore encountered a fatal error.
(EngineCore pid=9) ERROR 11-21 03:04:45 [core.py:720] torch.AcceleratorError: CUDA error: an illegal memory access was encountered
(APIServer pid=1) ERROR 11-21 03:04:46 [async_llm.py:480] vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue. See stack trace (above) for the root cause.`,
    "illegal memory access",
    "Xid",
  ],
  [
    "vllm",
    "engine_died",
    `(EngineCore pid=9) ERROR 11-21 03:04:45 [core.py:720] KeyError: 'block_17'
(APIServer pid=1) ERROR 11-21 03:04:46 [async_llm.py:480] vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue. See stack trace (above) for the root cause.`,
    "an engine process died: KeyError: 'block_17'",
    "",
  ],
  [
    "sglang",
    "host_oom",
    "RuntimeError: [enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8589934592 bytes.",
    "memory ran out",
    "dmesg",
  ],
];

describe("what an engine prints before it ends", () => {
  test.each(table)("%s: %s (%#)", (kind, failure, log, words, hint) => {
    const told = explain(kind, log);
    expect([told.failure, told.reason]).toEqual([failure, expect.stringContaining(words)]);
    expect(told.hint).toContain(hint);
    expect(told.reason.length).toBeLessThanOrEqual(300);
    expect(told.reason).not.toMatch(/pid=|\[core\.py/);
    expect(told.evidence.length).toBeGreaterThan(0);
  });

  test("every class of the table but those of exits is in it", () => {
    const classes = new Set(table.map((row) => row[1]));
    expect(classes.size).toBe(18);
  });
});

test("what the next start cannot change is deterministic", () => {
  const deterministic = (kind: EngineKind, log: string) => explain(kind, log).deterministic;
  const of = (failure: FailureClass) => {
    const row = table.find((one) => one[1] === failure);
    return deterministic(row?.[0] ?? "generic", row?.[2] ?? "");
  };
  for (const failure of ["bad_flag", "gated", "no_model", "arch_unsupported"] as const) {
    expect([failure, of(failure)]).toEqual([failure, true]);
  }
  for (const failure of ["gpu_oom", "gpu_busy", "offline", "port_in_use", "shm"] as const) {
    expect([failure, of(failure)]).toEqual([failure, false]);
  }
});

describe("near misses", () => {
  const harmless = [
    "WARNING 11-21 03:04:05 [config.py:9] CUDA out of memory may follow",
    "(EngineCore pid=3) WARNING 11-21 03:04:05 [x.py:1] 404 Client Error: Entry not found",
    "INFO 11-21 03:04:05 [x.py:1] Name or service not known, using 0.0.0.0",
    "2026-11-21T03:04:05.1Z  WARN text_generation_launcher: Address already in use, trying the next",
    'time=2026-11-21T03:04:05Z level=WARN msg="cudaMalloc failed: out of memory"',
    "model failed to load with cudaMalloc failed, retrying without pipeline parallelism",
    "FutureWarning: `resume_download` is deprecated and no space left on device",
  ];

  test.each(harmless)("%s", (line) => {
    expect(isHarmless(line)).toBe(true);
    const told = explain("vllm", [line, "RuntimeError: something else"]);
    expect([told.failure, told.reason]).toEqual([
      "crash",
      "exited with code 1: RuntimeError: something else",
    ]);
    expect(told.deterministic).toBe(false);
  });

  test.each([
    "torch.OutOfMemoryError: CUDA out of memory. See INFO.md",
    "RuntimeError: bad value WARNINGS",
    "ERROR 11-21 03:04:05 [core.py:1] failed",
  ])("no near miss: %s", (line) => expect(isHarmless(line)).toBe(false));

  test("a warning about an optional file is not the cause of a later crash", () => {
    const told = explain("vllm", [
      "404 Client Error. Entry Not Found for url: https://huggingface.co/o/m/resolve/main/adapter.json",
      "requests.exceptions.HTTPError: 401 Client Error",
      "torch.OutOfMemoryError: CUDA out of memory.",
      "ncclSystemError: System call failed",
      "Engine core initialization failed. See root cause above.",
    ]);
    expect(told.failure).toBe("gpu_oom");
  });

  test("what only follows from another end is not the cause", () => {
    const told = explain("vllm", [
      "ValueError: Model architectures ['X'] are not supported for now.",
      "RuntimeError: unhandled system error, NCCL version 2.27",
      "Received sigquit from a child process.",
    ]);
    expect(told.failure).toBe("arch_unsupported");
  });
});

describe("what the exit alone tells", () => {
  const docker = { tool: "docker", oomKilled: null };

  test.each([
    [exited(0), "exited with code 0: bye"],
    [exited(7), "exited with code 7: bye"],
    [killed("SIGSEGV"), "killed by SIGSEGV (segmentation fault): bye"],
    [exited(139), "killed by SIGSEGV (segmentation fault): bye"],
    [exited(143), "ended by SIGTERM from outside: bye"],
  ])("%o", (exit, reason) => {
    const told = explain("generic", ["hello", "bye"], { exit });
    expect([told.failure, told.reason, told.evidence]).toEqual(["crash", reason, ["hello", "bye"]]);
  });

  test("SIGKILL from nowhere is often want of memory, but not SGLang's own", () => {
    expect(explain("vllm", [], { exit: killed("SIGKILL") }).hint).toContain("dmesg");
    expect(explain("sglang", [], { exit: killed("SIGKILL") }).hint).toBe("");
    expect(explain("generic", ["ValueError: no"], { exit: killed("SIGKILL") }).hint).toBe("");
  });

  test.each([
    [exited(135), null, "shm", "--shm-size", false],
    [exited(127), null, "missing_program", "install", true],
    [exited(126), docker, "missing_program", "image", true],
    [exited(127), docker, "missing_program", "image", true],
    [exited(125), docker, "docker", "by hand", false],
    [exited(137), { tool: "docker", oomKilled: true }, "host_oom", "-m", false],
    [exited(137), { tool: "docker", oomKilled: false }, "crash", "docker kill", false],
    [exited(137), docker, "crash", "--rm", false],
    [exited(139), docker, "crash", "", false],
  ] as const)("%o in %o: %s", (exit, container, failure, hint, deterministic) => {
    const told = explain("vllm", [], { exit, container });
    const wanted = container || !hint.includes("shm") ? hint : "/dev/shm";
    expect([told.failure, told.deterministic]).toEqual([failure, deterministic]);
    expect(told.hint).toContain(wanted);
  });

  test.each([
    [
      "docker: Error response from daemon: Bind for 0.0.0.0:8000 failed: port is already allocated.",
      "port_in_use",
      "-p",
      false,
    ],
    [
      'docker: Error response from daemon: could not select device driver "" with capabilities: [[gpu]]',
      "no_gpu",
      "container toolkit",
      true,
    ],
    [
      "docker: Error response from daemon: unknown or invalid runtime name: nvidia.",
      "no_gpu",
      "toolkit",
      true,
    ],
    [
      "docker: Error response from daemon: pull access denied for org/x, repository does not exist or may require 'docker login'",
      "docker",
      "image's name",
      true,
    ],
    [
      "docker: Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
      "docker",
      "systemctl start",
      false,
    ],
    [
      "docker: permission denied while trying to connect to the Docker daemon socket",
      "docker",
      "usermod",
      true,
    ],
    [
      'docker: Error response from daemon: Conflict. The container name "/vllm" is already in use by container "abc".',
      "docker",
      "rm -f",
      false,
    ],
    ["unknown shorthand flag: 'Z' in -Z", "bad_flag", "--help", true],
  ] as const)("125 with %s", (line, failure, hint, deterministic) => {
    const told = explain("vllm", [line, "Run 'docker run --help' for more information"], {
      exit: exited(125),
      container: docker,
    });
    expect([told.failure, told.deterministic]).toEqual([failure, deterministic]);
    expect(told.hint).toContain(hint);
  });

  test("the kernel's word for a container beats the engine's", () => {
    const told = explain("vllm", vllmOom, {
      exit: exited(137),
      container: { tool: "podman", oomKilled: true },
    });
    expect(told.failure).toBe("host_oom");
  });

  test("in a container the advice is for its command", () => {
    const gated = table.find((row) => row[1] === "gated");
    const more = { container: docker };
    expect(explain("vllm", gated?.[2] ?? "", more).hint).toContain("-e HF_TOKEN");
    const shm = table.find((row) => row[1] === "shm");
    expect(explain("vllm", shm?.[2] ?? "", more).hint).toContain("--ipc=host");
  });

  test.each([
    ["https://huggingface.co/gpt2/resolve/main/config.json", "https://huggingface.co/gpt2 and"],
    ["https://huggingface.co/api/models/o/m.", "https://huggingface.co/o/m and"],
    ["listed on 'https://huggingface.co/models'", "the licence and"],
  ])("the licence's page: %s", (url, words) => {
    expect(explain("vllm", `OSError: You are trying to access a gated repo ${url}`).hint).toContain(
      words,
    );
  });

  test("without an end and a known cause there is nothing to tell", () => {
    const none = { kind: "vllm" as const, exit: null, container: null };
    expect(explainFailure({ ...none, lines: ["Loading"] })).toBeNull();
    expect(explainFailure({ ...none, lines: vllmOom.split("\n") })?.failure).toBe("gpu_oom");
  });
});

describe("evidence", () => {
  test("the telling lines, once each, oldest first, the cause always among them", () => {
    const after = Array.from({ length: 20 }, (_, i) => `RuntimeError: consequence ${i}`);
    const told = explain("vllm", [
      "hello",
      "(Worker_TP0 pid=1) ERROR 11-21 03:04:45 [x.py:1] CUDA out of memory. Tried",
      "(Worker_TP1 pid=2) ERROR 11-21 03:04:45 [x.py:1] CUDA out of memory. Tried",
      ...after,
    ]);
    expect(told.evidence).toHaveLength(8);
    expect(told.evidence[0]).toContain("(Worker_TP1 pid=2)");
    expect(told.evidence.slice(1)).toEqual(after.slice(-7));
  });

  test("at most 2 KiB, without escapes and secrets", () => {
    const long = Array.from({ length: 9 }, (_, i) => `Error: ${i} ${"ü".repeat(600)}`);
    const told = explain("generic", [
      ...long,
      "\u001b[31mError: Bearer abcdefghij1234 and hf_abcdefghijklmnop at http://me:pw@host/ --api-key sk-1234567890ab\u001b[0m",
    ]);
    const bytes = told.evidence.reduce((sum, line) => sum + Buffer.byteLength(line), 0);
    expect(bytes).toBeLessThanOrEqual(2048);
    const shown = [told.reason, ...told.evidence].join("\n");
    expect(shown).not.toMatch(/abcdefghij|:pw@|1234567890ab|\u001b/);
    expect(told.reason).toContain("hf_***");
  });
});
