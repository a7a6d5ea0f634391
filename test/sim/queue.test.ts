import { afterEach, describe, expect, test } from "bun:test";
import type { SimOptions } from "../../src/sim/core/options.ts";
import {
  chat,
  metric,
  MODEL,
  post,
  quickSim,
  rawPost,
  streamedText,
  until,
  type TestSim,
} from "./harness.ts";

const sims: TestSim[] = [];
afterEach(async () => {
  for (const sim of sims.splice(0)) await sim.stop();
});

async function start(options: Partial<SimOptions>): Promise<TestSim> {
  const sim = await quickSim({ stopTimeoutMs: 20, ...options });
  sims.push(sim);
  return sim;
}

const running = (sim: TestSim) => metric(sim, "vllm:num_requests_running");
const waiting = (sim: TestSim) => metric(sim, "vllm:num_requests_waiting");

interface Usage {
  prompt_tokens: number;
  prompt_tokens_details: { cached_tokens: number } | null;
}

async function usageOf(response: Promise<Response>): Promise<Usage> {
  const body: { usage: Usage } = JSON.parse(await (await response).text());
  return body.usage;
}

/** A prompt of so many tokens. */
function prompt(tokens: number, letter = "x"): string {
  return letter.repeat(tokens * 4);
}

function complete(sim: TestSim, text: string, fields: object = {}): Promise<Response> {
  return post(sim, "/v1/completions", { model: MODEL, prompt: text, max_tokens: 1, ...fields });
}

describe("max-num-seqs", () => {
  test("more requests wait, first come, first served", async () => {
    const sim = await start({ maxNumSeqs: 2, itlMs: 2 });
    const ended: number[] = [];
    const all: Promise<unknown>[] = [];
    for (const i of [0, 1, 2, 3, 4]) {
      // Later ones take longer, so that two that run side by side end in their order.
      const answer = chat(sim, { max_tokens: 100 + 40 * i }).then((one) => one.text());
      all.push(answer.then(() => ended.push(i)));
      await until("it is in", async () => (await running(sim)) + (await waiting(sim)) === i + 1);
    }
    expect(await waiting(sim)).toBe(3);
    expect(await running(sim)).toBe(2);
    await Promise.all(all);
    expect(ended).toEqual([0, 1, 2, 3, 4]);
    expect([await running(sim), await waiting(sim)]).toEqual([0, 0]);
    expect(await metric(sim, "vllm:request_queue_time_seconds_sum")).toBeGreaterThan(0.05);
  });

  test("a client that leaves the queue frees its place and is never served", async () => {
    const sim = await start({ maxNumSeqs: 1, itlMs: 5 });
    const first = chat(sim, { max_tokens: 30 });
    await until("one runs", async () => (await running(sim)) === 1);
    const leaver = new AbortController();
    const gone = post(
      sim,
      "/v1/chat/completions",
      { messages: [{ role: "user", content: "x" }] },
      { signal: leaver.signal },
    ).then(
      () => "answered",
      () => "gone",
    );
    await until("one waits", async () => (await waiting(sim)) === 1);
    leaver.abort();
    expect(await gone).toBe("gone");
    await until("none waits", async () => (await waiting(sim)) === 0);
    expect(await running(sim)).toBe(1);
    await (await first).text();
    await until("all is done", async () => (await running(sim)) === 0);
    expect(await metric(sim, "vllm:prompt_tokens_total")).toBe(
      (await usageOf(chat(sim))).prompt_tokens,
    );
  });

  test("a request with more choices than seats runs alone", async () => {
    const sim = await start({ maxNumSeqs: 2 });
    const response = await chat(sim, { n: 5, max_tokens: 3 });
    expect(response.status).toBe(200);
    await response.text();
    expect(await running(sim)).toBe(0);
  });

  test("the end of the engine ends those that wait as well", async () => {
    const sim = await start({ maxNumSeqs: 1, itlMs: 50, stopTimeoutMs: 500 });
    const answers = [chat(sim), chat(sim)].map(async (one) => (await one).json());
    await until("one waits", async () => (await waiting(sim)) === 1);
    await sim.stop();
    for (const answer of await Promise.all(answers)) {
      expect(answer).toMatchObject({ choices: [{ finish_reason: "abort" }] });
    }
  });

  test("shows in the manners of the others", async () => {
    const names = {
      sglang: ["sglang:num_running_reqs", "sglang:num_queue_reqs"],
      tgi: ["tgi_batch_current_size", "tgi_queue_size"],
      "llama-server": ["llamacpp:requests_processing", "llamacpp:requests_deferred"],
    } as const;
    for (const like of ["sglang", "tgi", "llama-server"] as const) {
      const sim = await start({ like, maxNumSeqs: 1, itlMs: 20, healthTimeMs: 0 });
      const both = [chat(sim), chat(sim)].map((one) => one.catch(() => null));
      await until(`${like} shows them`, async () => {
        const [runs, waits] = names[like];
        return (await metric(sim, runs)) === 1 && (await metric(sim, waits)) === 1;
      });
      await sim.stop();
      await Promise.all(both);
    }
  });
});

describe("prefill-rate", () => {
  test("a prompt takes its tokens' time, on top of ttft", async () => {
    const sim = await start({ prefillRate: 1000, ttftMs: 50 });
    const began = performance.now();
    await (await complete(sim, prompt(100))).text();
    expect(performance.now() - began).toBeGreaterThanOrEqual(149);
  });

  test("prompts share the rate one after the other: the first is not held up by the second", async () => {
    const sim = await start({ prefillRate: 1000 });
    const order: string[] = [];
    const long = complete(sim, prompt(200)).then(() => order.push("long"));
    await until("the long one runs", async () => (await running(sim)) === 1);
    const short = complete(sim, prompt(10)).then(() => order.push("short"));
    await Promise.all([long, short]);
    expect(order).toEqual(["long", "short"]);
  });

  test("a client that leaves in the middle makes way at once", async () => {
    const sim = await start({ prefillRate: 100 });
    const client = await rawPost(sim, "/v1/completions", {
      prompt: prompt(20_000),
      max_tokens: 1,
      stream: true,
    });
    await until("it runs", async () => (await running(sim)) === 1);
    const next = complete(sim, prompt(5));
    await until("both run", async () => (await running(sim)) === 2);
    client.close();
    expect((await next).status).toBe(200);
    expect(await running(sim)).toBe(0);
  });
});

describe("kv-tokens", () => {
  test("a prompt is found again by its beginning: usage and metrics say so", async () => {
    const sim = await start({ kvTokens: 65_536 });
    const first = await usageOf(complete(sim, prompt(100)));
    expect(first).toMatchObject({
      prompt_tokens: 100,
      prompt_tokens_details: { cached_tokens: 0 },
    });
    const again = await usageOf(complete(sim, prompt(100) + prompt(20, "y")));
    expect(again.prompt_tokens_details).toEqual({ cached_tokens: 96 });
    expect(await metric(sim, "vllm:prefix_cache_queries_total")).toBe(220);
    expect(await metric(sim, "vllm:prefix_cache_hits_total")).toBe(96);
    expect(await metric(sim, "vllm:kv_cache_usage_perc")).toBe(0);
  });

  test("streams tell it in their last frame, only where usage was asked for", async () => {
    const sim = await start({ kvTokens: 65_536 });
    const ask = (fields: object) =>
      complete(sim, prompt(64), { stream: true, ...fields }).then((one) => one.text());
    const silent = await ask({});
    expect(silent).not.toContain("cached_tokens");
    const told = await ask({ stream_options: { include_usage: true } });
    expect(told).toContain('"prompt_tokens_details":{"cached_tokens":48}');
  });

  test("the next turn of a conversation finds the last one with its answer", async () => {
    const sim = await start({ kvTokens: 65_536 });
    const messages = [{ role: "user", content: prompt(64) }];
    const answer = streamedText(
      await (
        await post(sim, "/v1/chat/completions", { messages, stream: true, max_tokens: 64 })
      ).text(),
    );
    const more = [...messages, { role: "assistant", content: answer }];
    const next = [...more, { role: "user", content: "and then?" }];
    const usage = await usageOf(post(sim, "/v1/chat/completions", { messages: next }));
    expect(usage.prompt_tokens_details?.cached_tokens).toBeGreaterThanOrEqual(112);
  });

  test("what is cached is not computed again", async () => {
    const sim = await start({ kvTokens: 65_536, prefillRate: 2000 });
    await (await complete(sim, prompt(640))).text();
    const cold = await metric(sim, "vllm:time_to_first_token_seconds_sum");
    await (await complete(sim, prompt(641))).text();
    const warm = (await metric(sim, "vllm:time_to_first_token_seconds_sum")) - cold;
    expect(cold).toBeGreaterThanOrEqual(0.32);
    expect(warm).toBeLessThan(cold / 2);
  });

  test("a request that does not fit waits until one leaves", async () => {
    const sim = await start({ kvTokens: 1024, maxModelLen: 1024, itlMs: 1 });
    const first = complete(sim, prompt(500), { max_tokens: 200 });
    await until("it runs", async () => (await running(sim)) === 1);
    expect(await metric(sim, "vllm:kv_cache_usage_perc")).toBeGreaterThan(0.6);
    const second = complete(sim, prompt(500, "y"), { max_tokens: 10 });
    await until("the second waits", async () => (await waiting(sim)) === 1);
    expect((await first).status).toBe(200);
    expect((await second).status).toBe(200);
    expect(await metric(sim, "vllm:kv_cache_usage_perc")).toBe(0);
  });

  test("old prompts are evicted for new ones", async () => {
    const sim = await start({ kvTokens: 1024, maxModelLen: 1024 });
    const cached = async (letter: string) =>
      (await usageOf(complete(sim, prompt(400, letter)))).prompt_tokens_details?.cached_tokens;
    expect([await cached("a"), await cached("b"), await cached("a")]).toEqual([0, 0, 384]);
    expect([await cached("c"), await cached("b")]).toEqual([0, 208]);
  });

  test("a cache that does not hold one request is refused at the start", async () => {
    const refused = await quickSim({ kvTokens: 1000 }).catch((error: unknown) => String(error));
    expect(refused).toContain("--kv-tokens 1000 does not hold one request");
  });

  test("without it nothing changes: no details, no hits", async () => {
    const sim = await start({});
    expect((await usageOf(complete(sim, prompt(100)))).prompt_tokens_details).toBeNull();
    expect(await metric(sim, "vllm:prefix_cache_queries_total")).toBe(0);
  });

  test("SGLang and llama-server tell it in their manners, TGI and Ollama not at all", async () => {
    const chatUsage = async (sim: TestSim) => {
      const messages = [{ role: "user", content: prompt(64) }];
      await (await post(sim, "/v1/chat/completions", { messages })).text();
      return usageOf(post(sim, "/v1/chat/completions", { messages }));
    };
    for (const like of ["sglang", "llama-server"] as const) {
      const sim = await start({ like, kvTokens: 65_536 });
      expect((await chatUsage(sim)).prompt_tokens_details).toEqual({ cached_tokens: 64 });
    }
    for (const like of ["tgi", "ollama"] as const) {
      const sim = await start({ like, kvTokens: 65_536 });
      expect((await chatUsage(sim)).prompt_tokens_details ?? null).toBeNull();
    }
  });
});

test("itl-per-seq slows all down by those that run beside them", async () => {
  const sim = await start({ itlMs: 1, itlPerSeqMs: 5 });
  const one = chat(sim, { max_tokens: 20 });
  const other = chat(sim, { max_tokens: 20 });
  await Promise.all([one, other].map(async (answer) => (await answer).text()));
  expect(await metric(sim, "vllm:request_decode_time_seconds_sum")).toBeGreaterThan(0.15);
});
