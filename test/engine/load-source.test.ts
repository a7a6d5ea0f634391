import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { type LoadSource, seriesValues, tidyLoad } from "../../src/engine/load-source.ts";
import { PRESETS } from "../../src/engine/presets/all.ts";
import { sglangCapacity, trtllmIterations } from "../../src/engine/presets/load-json.ts";
import type { EngineKind } from "../../src/engine/status.ts";

/** What the source of a kind that is read at this path makes of a text. */
function read(kind: EngineKind, path: string, text: string) {
  const source = PRESETS[kind].load.find((one) => one.path === path);
  if (source === undefined) throw new Error(`${kind} has no ${path}`);
  return source.read(text);
}

describe("Prometheus text", () => {
  test("vLLM: ranks and models are added up, the cache is averaged, histograms are passed over", () => {
    const text = `\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="Qwen/Qwen3-8B"} 3.0
vllm:num_requests_running{engine="1",model_name="Qwen/Qwen3-8B"} 4.0
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="Qwen/Qwen3-8B"} 0.0
vllm:num_requests_waiting{engine="1",model_name="Qwen/Qwen3-8B"} 2.0
vllm:num_requests_waiting_by_reason{engine="1",reason="capacity"} 99.0
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{engine="0",model_name="Qwen/Qwen3-8B"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="Qwen/Qwen3-8B"} 0.75
vllm:prefix_cache_queries_total{engine="0",model_name="Qwen/Qwen3-8B"} 1.2e+06
vllm:prefix_cache_queries_created{engine="0",model_name="Qwen/Qwen3-8B"} 1.7e+09
vllm:prefix_cache_hits_total{engine="0",model_name="Qwen/Qwen3-8B"} 800000.0
vllm:prompt_tokens_total{engine="0",model_name="Qwen/Qwen3-8B"} 100.0
vllm:generation_tokens_total{engine="0",model_name="Qwen/Qwen3-8B"} 11.0
vllm:time_to_first_token_seconds_bucket{engine="0",le="0.001",model_name="Qwen/Qwen3-8B"} 7.0
`;
    expect(read("vllm", "/metrics", text)).toEqual({
      load: {
        running: 7,
        waiting: 2,
        kvUsage: 0.5,
        prefixHitTokens: 800_000,
        prefixQueryTokens: 1_200_000,
      },
      progress: 111,
    });
  });

  test("vLLM before 0.9.2 names its cache otherwise", () => {
    const text = 'vllm:gpu_cache_usage_perc{model_name="m"} 0.4\n';
    expect(read("vllm", "/metrics", text)).toEqual({ load: { kvUsage: 0.4 }, progress: null });
  });

  test("SGLang, llama-server, TensorRT-LLM, LMDeploy and Dynamo", () => {
    const label = '{model_name="m",tp_rank="0"}';
    const sglang = [
      `sglang:num_running_reqs${label} 5.0`,
      `sglang:num_running_reqs_offline_batch${label} 9.0`,
      `sglang:num_queue_reqs${label} 1.0`,
      `sglang:token_usage${label} 0.31`,
      `sglang:generation_tokens_total${label} 8.0`,
    ].join("\n");
    expect(read("sglang", "/metrics", sglang)).toEqual({
      load: { running: 5, waiting: 1, kvUsage: 0.31 },
      progress: 8,
    });
    const llama = "llamacpp:requests_processing 2\nllamacpp:requests_deferred 3";
    expect(read("llama-server", "/metrics", llama)?.load).toEqual({ running: 2, waiting: 3 });
    const trtllm = 'trtllm_num_requests_running{model_name="m"} 4\ntrtllm_kv_cache_utilization 0.5';
    expect(read("trtllm", "/prometheus/metrics", trtllm)?.load).toEqual({
      running: 4,
      kvUsage: 0.5,
    });
    const lmdeploy = "lmdeploy:num_requests_waiting 6\nlmdeploy:gpu_cache_usage_perc 0.1";
    expect(read("lmdeploy", "/metrics", lmdeploy)?.load).toEqual({ waiting: 6, kvUsage: 0.1 });
    const dynamo =
      'dynamo_frontend_inflight_requests{model="a"} 2\ndynamo_frontend_inflight_requests{model="b"} 1';
    expect(read("dynamo", "/metrics", dynamo)?.load).toEqual({ running: 3 });
  });

  test("TGI: the share of what its batch may grow to; TEI tells its queue only", () => {
    const tgi = [
      "tgi_batch_current_size 3",
      "tgi_queue_size 0",
      "tgi_batch_current_max_tokens 2048",
      "tgi_batch_max_total_tokens 8192",
    ].join("\n");
    expect(read("tgi", "/metrics", tgi)?.load).toEqual({ running: 3, waiting: 0, kvUsage: 0.25 });
    const noTotal =
      "tgi_batch_current_max_tokens 2048\ntgi_batch_max_total_tokens 0\ntgi_queue_size 1";
    expect(read("tgi", "/metrics", noTotal)?.load).toEqual({ waiting: 1 });
    expect(read("tei", "/metrics", "te_queue_size 12\n")?.load).toEqual({ waiting: 12 });
  });

  test("only whole names at the start of a line, whatever labels hold", () => {
    expect(seriesValues('a_b{x="} 9 "} 1 1700000000\n', "a_b")).toEqual([1]);
    expect(seriesValues('a{x="\\"} a_b 5"} 1\r\na_b 2\r\n', "a_b")).toEqual([2]);
    expect(seriesValues("# TYPE a_b gauge\n a_b 3\na_bc 4\nxa_b 5\n", "a_b")).toEqual([]);
    expect(seriesValues("a_b NaN\na_b +Inf\na_b\na_b \na_b 0x10\na_b 7", "a_b")).toEqual([16, 7]);
  });

  test("text without a figure tells nothing, and is not taken for zero", () => {
    for (const text of ["", "<html>", "{}", "vllm:num_requests_running NaN", "\n\n"]) {
      expect(read("vllm", "/metrics", text)).toBeNull();
    }
  });
});

describe("JSON", () => {
  test("SGLang's loads: ranks added up, the cache averaged, its own limit", () => {
    const rank = (running: number, usage: number) => ({
      dp_rank: 0,
      num_running_reqs: running,
      num_waiting_reqs: 1,
      token_usage: usage,
      num_used_tokens: 10 * running,
      max_running_requests: 64,
    });
    const body = { loads: [rank(2, 0.2), rank(4, 0.6)] };
    expect(read("sglang", "/v1/loads?include=core", JSON.stringify(body))).toEqual({
      load: { running: 6, waiting: 2, kvUsage: 0.4 },
      progress: 60,
    });
    expect(sglangCapacity(body)).toBe(128);
    expect(sglangCapacity({ loads: [] })).toBeNull();
  });

  test("llama-server's slots, new and old", () => {
    const slots = [
      { id: 0, is_processing: true, next_token: [{ n_decoded: 7 }], n_past: 3 },
      { id: 1, is_processing: false },
    ];
    expect(read("llama-server", "/slots", JSON.stringify(slots))).toEqual({
      load: { running: 1 },
      progress: 10,
    });
    const old = [{ state: 1, next_token: { n_decoded: 4 } }, { state: 0 }, { state: 1 }];
    expect(read("llama-server", "/slots", JSON.stringify(old))).toEqual({
      load: { running: 2 },
      progress: 4,
    });
    expect(read("llama-server", "/slots", "[{}]")).toBeNull();
  });

  test("TensorRT-LLM's iterations: the last one counts; an emptied list tells nothing", () => {
    const step = (iter: number) => ({
      iter,
      numActiveRequests: iter,
      numQueuedRequests: 1,
      kvCacheStats: { usedNumBlocks: 25, maxNumBlocks: 100 },
    });
    expect(trtllmIterations.read(JSON.stringify([step(1), step(2)]))).toEqual({
      load: { running: 2, waiting: 1, kvUsage: 0.25 },
      progress: 2,
    });
    expect(trtllmIterations.read("[]")).toBeNull();
    expect(PRESETS.trtllm.load.map(({ path }) => path)).toEqual(["/prometheus/metrics"]);
  });
});

test("figures that cannot be are left out", () => {
  expect(tidyLoad({ running: -1, waiting: Number.NaN, kvUsage: 1.5 })).toEqual({ kvUsage: 1 });
  expect(tidyLoad({ running: 1e300, waiting: 2.4 })).toEqual({ running: 2 ** 32 - 1, waiting: 2 });
  expect(tidyLoad({ prefixHitTokens: 5, prefixQueryTokens: 4 })).toBeNull();
  expect(tidyLoad({ prefixHitTokens: 5 })).toBeNull();
  expect(tidyLoad({ prefixHitTokens: 0, prefixQueryTokens: 4 })).toEqual({
    prefixHitTokens: 0,
    prefixQueryTokens: 4,
  });
  expect(tidyLoad({})).toBeNull();
});

test("no text makes a source throw, and what it reads is sound", () => {
  const sources: LoadSource[] = [
    ...Object.values(PRESETS).flatMap(({ load }) => load),
    trtllmIterations,
  ];
  const names = ["vllm:num_requests_running", "te_queue_size", "sglang:token_usage"];
  const line = fc
    .tuple(fc.constantFrom(...names), fc.string(), fc.oneof(fc.double().map(String), fc.string()))
    .map(([name, labels, value]) => `${name}{${labels}} ${value}`);
  const text = fc.oneof(
    fc.string(),
    fc.json(),
    fc.array(line).map((lines) => lines.join("\n")),
    fc.jsonValue().map((loads) => JSON.stringify({ loads: [loads, { num_running_reqs: loads }] })),
    fc.jsonValue().map((slot) => JSON.stringify([slot, { is_processing: slot }])),
  );
  fc.assert(
    fc.property(text, (input) => {
      for (const source of sources) {
        const reading = source.read(input);
        for (const figure of Object.values(reading?.load ?? {})) {
          expect(Number.isFinite(figure) && figure >= 0).toBe(true);
        }
        expect(reading?.load.kvUsage ?? 0).toBeLessThanOrEqual(1);
      }
    }),
  );
});
