/** What an engine's log lines tell: how far it is, where it listens, why it died. */

import type { EnginePhase, EngineProgress } from "../state.ts";
import { portNumber } from "../flags.ts";

export interface PrintedAddress {
  host: string;
  port: number;
}

// Start-up lines as the sources of vLLM, SGLang, TGI, TEI, llama.cpp, TensorRT-LLM and LMDeploy
// print them in August 2026, latest phase first, since a line of a later phase may
// mention an earlier one. Some of TensorRT-LLM's are from its documents only.
const PHASE_LINES: ReadonlyArray<readonly [EnginePhase, RegExp]> = [
  [
    "warmup",
    /Capturing (?:CUDA graph|batches)|Graph capturing finished|KV cache memory|KV cache size|KV Cache is allocated|max_total_num_tokens=|Warming up (?:model|the)|Setting max batch total tokens|init engine \(|Cuda Graphs are enabled|initializing(?: slots|, n_slots)|n_slots =|warming up the model|tp_rank=\d+ is ready/i,
  ],
  [
    "compile",
    /Dynamo bytecode transform|Compiling a graph|torch\.compile takes|Directly load the compiled graph|autotun|Building TRT-LLM engine|torch\.compile (?:took|and initial profiling)/i,
  ],
  [
    "load",
    /Starting to load model|\bLoading [\w -]*(?:checkpoint shards|weights|shards)|Load weight (?:begin|end)|\bLoading model|Starting shard|Waiting for shard|Shard ready|Starting model backend|Loading (?:HF )?model to memory|Loading safetensors|Loading weights took|Model loading took|Convert to turbomind format|load_tensors:|Starting \w+ model on/i,
  ],
  [
    "download",
    /Starting check and download|(?<!^[0-9a-f]{12}: )Downloading\b|Time spent downloading|Successfully downloaded|Fetching \d+ files|Using model weights format|common_download_file|Download: \[/i,
  ],
];
const PERCENT = /(?:^|[^\d.])(\d{1,3})(?:\.\d+)?%/;

/** The phase that a line announces, or null. */
export function readProgress(line: string): EngineProgress | null {
  for (const [phase, pattern] of PHASE_LINES) {
    if (!pattern.test(line)) continue;
    const percent = PERCENT.exec(line)?.[1];
    return { phase, percent: percent === undefined ? null : Math.min(100, Number(percent)) };
  }
  return null;
}

// vLLM, uvicorn, llama.cpp, Ollama, TEI and LMDeploy name their address in these words. Another
// scheme than HTTP (`tcp://`) belongs to something inside the engine.
const ADDRESS =
  /(?:Starting vLLM [\w ]*server[\w ]* on|Uvicorn running on|listening on|Starting HTTP server:|Please open)[:\s]+(?:https?:\/\/)?(\[[0-9a-fA-F:.]+\]|[\w.-]+|\*):(\d{1,5})(?![\d.\w])/i;

/** The address that a line says the engine listens on, or null. */
export function readAddress(line: string): PrintedAddress | null {
  const match = ADDRESS.exec(line);
  const port = portNumber(match?.[2]);
  if (port === null || port === 0) return null;
  return { host: (match?.[1] ?? "").replace(/^\[|\]$/g, ""), port };
}

// An exception's own line or a tool's own verdict: says what went wrong.
const VERDICT =
  /(?:^|[\s.])[A-Z]\w*(?:Error|Exception|Exit|Repo)\b(?:: | \[)|^\S*?: ?(?:error|fatal): |^(?:error|fatal|panic)[: ]|CUDA out of memory|cudaMalloc failed|address already in use|couldn't bind|no such file|not found|permission denied|unrecognized argument|unexpected argument|No such option/i;
const TROUBLE =
  /\b(?:error|fatal|panic(?:ked)?|failed|failure|exception|cannot|could not|unable|killed|abort(?:ed)?)\b/i;
// Speaks of a cause that stands elsewhere, or of nothing that matters.
const NOISE =
  /See root cause above|Traceback \(most recent call last\)|FutureWarning|leaked \w+ objects|resource_tracker/i;

/** Whether a line is an exception's own, or a program's own word for why it ends. */
export function isVerdict(line: string): boolean {
  return VERDICT.test(line) && !NOISE.test(line);
}

/** Whether a line speaks of trouble of any kind. */
export function isTrouble(line: string): boolean {
  return (VERDICT.test(line) || TROUBLE.test(line)) && !NOISE.test(line);
}

/** The line that best explains an end, searched from the last one up; null if there is none. */
export function tellingLine(lines: readonly string[]): string | null {
  const candidates = lines.filter((line) => line.trim() !== "" && !NOISE.test(line));
  const line =
    candidates.findLast((text) => VERDICT.test(text)) ??
    candidates.findLast((text) => TROUBLE.test(text)) ??
    candidates.at(-1) ??
    lines.at(-1);
  return line?.trim() ?? null;
}
