import { describe, expect, test } from "bun:test";
import { faultOf } from "../../src/sim/core/faults.ts";
import { SIM_DEFAULTS } from "../../src/sim/sim.ts";
import {
  answerOf,
  chat,
  chatBody,
  events,
  metric,
  post,
  quickSim,
  rawPost,
  streamedText,
  until,
  type TestSim,
} from "./harness.ts";

const idle = (sim: TestSim) => async () => (await metric(sim, "vllm:num_requests_running")) === 0;
const busy =
  (sim: TestSim, count = 1) =>
  async () =>
    (await metric(sim, "vllm:num_requests_running")) === count;
const aborted = (sim: TestSim) => metric(sim, "vllm:request_success_total", '"abort"');

describe("a client that leaves", () => {
  test("stops a stream at once", async () => {
    await using sim = await quickSim({ itlMs: 20 });
    const leave = new AbortController();
    const response = await post(
      sim,
      "/v1/chat/completions",
      chatBody({ stream: true, max_tokens: 20_000 }),
      { signal: leave.signal },
    );
    const reader = response.body?.getReader();
    await reader?.read();
    await until("one request runs", busy(sim));
    expect(await metric(sim, "vllm:kv_cache_usage_perc")).toBeGreaterThan(0);
    leave.abort();
    await until("none runs", idle(sim));
    const made = await metric(sim, "vllm:generation_tokens_total");
    await Bun.sleep(60);
    expect(await metric(sim, "vllm:generation_tokens_total")).toBe(made);
    expect(await aborted(sim)).toBe(1);
    expect(await metric(sim, "vllm:kv_cache_usage_perc")).toBe(0);
  });

  test.each([
    ["before the first token of a stream", { stream: true }, { ttftMs: 60_000 }],
    ["during the prefill of a whole answer", {}, { ttftMs: 60_000 }],
    ["in the middle of a whole answer", { max_tokens: 9000 }, { itlMs: 50 }],
    ["in the silence after the first token", { stream: true }, { silenceMs: 60_000 }],
  ])("%s", async (_, fields, options) => {
    await using sim = await quickSim(options);
    const leave = new AbortController();
    const asked = post(sim, "/v1/chat/completions", chatBody(fields), { signal: leave.signal })
      .then((response) => response.text())
      .catch(() => "left");
    await until("one request runs", busy(sim));
    leave.abort();
    expect(await asked).toBe("left");
    await until("none runs", idle(sim));
    expect(await aborted(sim)).toBe(1);
  });

  test("stops embeddings", async () => {
    await using sim = await quickSim({ ttftMs: 60_000 });
    const leave = new AbortController();
    const asked = post(sim, "/v1/embeddings", { input: "x" }, { signal: leave.signal }).catch(
      () => "left",
    );
    await until("one request runs", busy(sim));
    leave.abort();
    expect(await asked).toBe("left");
    await until("none runs", idle(sim));
  });
});

describe("die mid-stream", () => {
  test("resets that connection after N tokens, the engine lives on", async () => {
    await using sim = await quickSim({ dieMidStreamTokens: 5, itlMs: 1 });
    const client = await rawPost(sim, "/v1/chat/completions", chatBody({ stream: true }));
    await client.closed;
    const text = client.text();
    expect(text).toStartWith("HTTP/1.1 200 OK");
    expect(text.match(/"content":"[^"]+"/g)).toHaveLength(5);
    expect(text).not.toContain("[DONE]");
    expect(text).not.toEndWith("0\r\n\r\n");
    await until("none runs", idle(sim));
    expect(await metric(sim, "vllm:request_success_total", '"error"')).toBe(1);
    // Whole answers and short streams are no streams of 5 tokens.
    expect((await answerOf(chat(sim, { max_tokens: 9 }))).usage.completion_tokens).toBe(9);
    expect(await (await chat(sim, { stream: true, max_tokens: 4 })).text()).toEndWith("[DONE]\n\n");
  });

  test("a client sees an error, not an end", async () => {
    await using sim = await quickSim({ dieMidStreamTokens: 3 });
    const response = await chat(sim, { stream: true });
    expect(response.status).toBe(200);
    await expect(response.text()).rejects.toThrow();
  });
});

test("an error in the stream comes as an event, then [DONE]", async () => {
  await using sim = await quickSim({ errorInStreamTokens: 4 });
  const text = await (await chat(sim, { stream: true })).text();
  expect(streamedText(text)).toHaveLength(16);
  expect(text).toEndWith(
    'data: {"error": {"message": "Internal server error (simulated)", "type": "InternalServerError", "param": null, "code": 500}}\n\ndata: [DONE]\n\n',
  );
  const whole = await chat(sim);
  expect(whole.status).toBe(500);
  expect(await whole.json()).toMatchObject({ error: { code: 500, type: "InternalServerError" } });
  expect((await chat(sim, { max_tokens: 3 })).status).toBe(200);
  expect(await metric(sim, "vllm:request_success_total", '"error"')).toBe(2);
  expect(await metric(sim, "vllm:num_requests_running")).toBe(0);
});

test("no-done leaves out the end mark only", async () => {
  await using sim = await quickSim({ noDone: true });
  const text = await (await chat(sim, { stream: true, max_tokens: 4 })).text();
  expect(text).not.toContain("[DONE]");
  expect(JSON.parse(events(text).at(-1) ?? "").choices[0].finish_reason).toBe("length");
});

test("the error rate is the share of requests that fail before they begin", async () => {
  const throws = [0.1, 0.9, 0.29, 0.3];
  await using sim = await quickSim({ errorRate: 0.3, random: () => throws.shift() ?? 1 });
  const statuses: number[] = [];
  for (let i = 0; i < 3; i++) statuses.push((await chat(sim, { stream: true })).status);
  statuses.push((await post(sim, "/v1/embeddings", { input: "x" })).status);
  expect(statuses).toEqual([500, 200, 500, 200]);
  expect((await fetch(`${sim.url}/health`)).status).toBe(200);
});

test("silence comes after the first token and ends", async () => {
  await using sim = await quickSim({ silenceMs: 150 });
  const arrivals: number[] = [];
  let text = "";
  const response = await chat(sim, { stream: true, max_tokens: 3 });
  for await (const chunk of response.body ?? []) {
    arrivals.push(performance.now());
    text += new TextDecoder().decode(chunk);
  }
  expect((arrivals.at(-1) ?? 0) - (arrivals[0] ?? 0)).toBeGreaterThan(130);
  expect(text).toEndWith("[DONE]\n\n");
  expect(streamedText(text)).toBe("[simulated] ");
});

test("of several faults the one with the fewest tokens strikes", () => {
  const options = { ...SIM_DEFAULTS, models: [], print: () => undefined };
  expect(faultOf(options, true)).toBeNull();
  const both = { ...options, crashAfterTokens: 9, dieMidStreamTokens: 3, errorInStreamTokens: 5 };
  expect(faultOf(both, true)).toEqual({ kind: "cut", afterTokens: 3 });
  expect(faultOf(both, false)).toEqual({ kind: "error", afterTokens: 5 });
});
