import { expect, test } from "bun:test";
import { splitLines } from "../../../src/engine/log/line-splitter.ts";
import { readAddress, readProgress, tellingLine } from "../../../src/engine/diagnose/log-lines.ts";

test("addresses as engines print them", () => {
  const lines: Array<[string, string | null]> = [
    ["(APIServer pid=12) INFO 11-21 Starting vLLM server on http://0.0.0.0:8000", "0.0.0.0:8000"],
    ["INFO [api_server.py:1] Starting vLLM API server 0 on http://0.0.0.0:8000", "0.0.0.0:8000"],
    ["llmnode sim: Starting vLLM server on http://127.0.0.1:41234 (simulated)", "127.0.0.1:41234"],
    [
      "INFO:     Uvicorn running on http://127.0.0.1:30000 (Press CTRL+C to quit)",
      "127.0.0.1:30000",
    ],
    [
      "main: server is listening on http://127.0.0.1:8080 - starting the main loop",
      "127.0.0.1:8080",
    ],
    ['time=x level=INFO msg="Listening on 127.0.0.1:11434 (version 0.12)"', "127.0.0.1:11434"],
    ["INFO Starting HTTP server: 0.0.0.0:3000", "0.0.0.0:3000"],
    ["HINT:    Please open http://0.0.0.0:23333 in a browser", "0.0.0.0:23333"],
    ["Uvicorn running on http://[::]:8000", ":::8000"],
    ["listening on tcp://127.0.0.1:5555", null],
    ["Listening on port 80", null],
    ["listening on 1.2.3.4:0", null],
    ["listening on 1.2.3.4:99999", null],
    ["connected to http://127.0.0.1:8000", null],
  ];
  for (const [line, expected] of lines) {
    const address = readAddress(line);
    expect(address === null ? null : `${address.host}:${address.port}`).toBe(expected);
  }
});

test("phases as engines print them", () => {
  const lines: Array<[string, string | null]> = [
    ["Starting check and download process for m", "download"],
    ["Downloading model.gguf  41%", "download 41"],
    ["(EngineCore pid=3) Starting to load model m...", "load"],
    ["Loading safetensors checkpoint shards:  40% Completed | 2/5 [00:02<00:03]", "load 40"],
    ["Load weight begin. avail mem=79 GB", "load"],
    ["srv    load_model: loading model '/m.gguf'", "load"],
    ["Waiting for shard to be ready... rank=0", "load"],
    ["Dynamo bytecode transform time: 4.2 s", "compile"],
    ["Capturing CUDA graphs (PIECEWISE): 100%|####| 67/67", "warmup 100"],
    ["Capturing batches (bs=1 avail_mem=3.1 GB):  50%", "warmup 50"],
    ["Warming up model", "warmup"],
    ["GPU KV cache size: 12,345 tokens", "warmup"],
    ["INFO [weight_utils.py:1] Using model weights format ['*.safetensors']", "download"],
    ["Fetching 12 files:  25%|##5       | 3/12 [00:01<00:03]", "download 25"],
    ["Successfully downloaded weights for m", "download"],
    ["(EngineCore pid=3) Model loading took 14.9 GiB memory and 8.1 seconds", "load"],
    ["Multi-thread loading shards:  75% Completed | 3/4", "load 75"],
    ["Loading Model: [2/3] Loading HF model to memory", "load"],
    ["Convert to turbomind format:  30%|###", "load 30"],
    ["INFO text_embeddings_backend: Starting model backend", "load"],
    ["Loading Model: [3/3] Building TRT-LLM engine", "compile"],
    ["torch.compile takes 12.1 s in total", "compile"],
    ["Autotuning kernels", "compile"],
    ["Capturing CUDA graph shapes:  40%|####", "warmup 40"],
    ["[TP0] KV Cache is allocated. #tokens: 1048576", "warmup"],
    ["Setting max batch total tokens to 1048576", "warmup"],
    ["srv    load_model: initializing, n_slots = 4, n_ctx_slot = 4096", "warmup"],
    ["0a1b2c3d4e5f: Downloading  12.3MB/34.5MB", null],
    ["0a1b2c3d4e5f: Download complete", null],
    ["Application startup complete.", null],
    ["GET /v1/models 200", null],
  ];
  for (const [line, expected] of lines) {
    const progress = readProgress(line);
    const percent = progress?.percent ?? null;
    const text = progress && `${progress.phase}${percent === null ? "" : ` ${percent}`}`;
    expect([line, text]).toEqual([line, expected]);
  }
});

test("the line that explains an end", () => {
  const python = [
    "INFO loading",
    "Traceback (most recent call last):",
    '  File "x.py", line 3, in main',
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.",
    "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}",
    "/usr/lib/python3/resource_tracker.py: UserWarning: There appear to be 1 leaked semaphore objects",
  ];
  expect(tellingLine(python)).toStartWith("torch.OutOfMemoryError: CUDA out of memory");
  expect(tellingLine(["a", "vllm: error: unrecognized arguments: --x", "b"])).toContain("--x");
  expect(tellingLine(["start", "failed to open the model", "bye"])).toContain("failed");
  expect(tellingLine(["start", "last words", ""])).toBe("last words");
  expect(tellingLine([])).toBeNull();
});

test("lines end at \\n and \\r, whatever the pieces", () => {
  const bytes = new TextEncoder().encode("one\ntwo\r\nprogress 1%\rprogress 2%\r\n\nzwölf\nrest");
  for (let size = 1; size < 9; size += 1) {
    const splitter = splitLines(100);
    const lines: string[] = [];
    for (let i = 0; i < bytes.length; i += size) {
      lines.push(...splitter.push(bytes.subarray(i, i + size)));
    }
    expect(lines).toEqual(["one", "two", "progress 1%", "progress 2%", "zwölf"]);
    expect(splitter.flush()).toEqual(["rest"]);
    expect(splitter.flush()).toEqual([]);
  }
});

test("a long line is cut, and skipping drops the rest of one", () => {
  const encode = (text: string) => new TextEncoder().encode(text);
  const splitter = splitLines(5);
  expect(splitter.push(encode("abcdefgh"))).toEqual([]);
  expect(splitter.push(encode("ij\nnext\n"))).toEqual(["abcde…", "next"]);
  splitter.push(encode("half"));
  splitter.skipToNextLine();
  expect(splitter.push(encode("of another\nwhole\n"))).toEqual(["whole"]);
});
