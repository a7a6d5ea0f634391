import { expect, test } from "bun:test";
import {
  answerOf,
  chat,
  chatBody,
  events,
  metric,
  MODEL,
  post,
  quickSim,
  rawPost,
  streamedText,
  until,
} from "./harness.ts";

/** Takes out what differs from run to run, and checks that it is the same in all frames. */
function frozen(text: string): string {
  const ids = new Set(text.match(/"id":"[^"]*"/g));
  const times = new Set(text.match(/"created":\d+/g));
  expect([ids.size, times.size]).toEqual([1, 1]);
  return text
    .replaceAll(/"id":"(chatcmpl|cmpl)-[^"]*"/g, '"id":"$1-ID"')
    .replaceAll(/"created":\d+/g, '"created":0');
}

test("a chat stream, byte for byte", async () => {
  await using sim = await quickSim();
  const response = await chat(sim, {
    stream: true,
    max_tokens: 4,
    stream_options: { include_usage: true },
  });
  expect(response.status).toBe(200);
  expect(response.headers.get("content-type")).toBe("text/event-stream; charset=utf-8");
  const start = `data: {"id":"chatcmpl-ID","object":"chat.completion.chunk","created":0,"model":"${MODEL}","choices":[`;
  const token = (text: string) =>
    `${start}{"index":0,"delta":{"content":"${text}"},"logprobs":null,"finish_reason":null,"token_ids":null}]}\n\n`;
  const text = await response.text();
  const last = streamedText(text).slice(12);
  expect(frozen(text)).toBe(
    `${start}{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],"prompt_token_ids":null}\n\n` +
      token("[sim") +
      token("ulat") +
      token("ed] ") +
      token(last) +
      `${start}{"index":0,"delta":{"content":""},"logprobs":null,"finish_reason":"length","stop_reason":null,"token_ids":null}]}\n\n` +
      `${start}],"usage":{"prompt_tokens":6,"total_tokens":10,"completion_tokens":4}}\n\n` +
      "data: [DONE]\n\n",
  );
});

test("a completion stream, byte for byte", async () => {
  await using sim = await quickSim();
  const body = { model: MODEL, prompt: "Once upon", max_tokens: 1, stream: true };
  const text = await (await post(sim, "/v1/completions", body)).text();
  const start = `data: {"id":"cmpl-ID","object":"text_completion","created":0,"model":"${MODEL}","choices":[{"index":0,"text":`;
  const end = '"stop_reason":null,"prompt_token_ids":null,"token_ids":null}],"usage":null}\n\n';
  expect(frozen(text)).toBe(
    `${start}"[sim","logprobs":null,"finish_reason":null,${end}` +
      `${start}"","logprobs":null,"finish_reason":"length",${end}` +
      "data: [DONE]\n\n",
  );
});

test("each token is an event of its own, at its time", async () => {
  await using sim = await quickSim({ ttftMs: 30, itlMs: 15 });
  const began = performance.now();
  const response = await chat(sim, { stream: true, max_tokens: 5 });
  const arrivals: number[] = [];
  let text = "";
  for await (const chunk of response.body ?? []) {
    arrivals.push(performance.now() - began);
    text += new TextDecoder().decode(chunk);
  }
  expect(events(text)).toHaveLength(5 + 3);
  expect(arrivals[0]).toBeGreaterThanOrEqual(29);
  expect(arrivals.at(-1)).toBeGreaterThanOrEqual(30 + 4 * 15 - 1);
  expect(arrivals.length).toBeGreaterThanOrEqual(3);
  expect(await metric(sim, "vllm:time_to_first_token_seconds_count")).toBe(1);
  expect(await metric(sim, "vllm:inter_token_latency_seconds_count")).toBe(4);
});

test("stream and whole answer say the same and count the same", async () => {
  await using sim = await quickSim();
  const fields = { messages: [{ role: "user", content: "count, please: äöü €" }] };
  const whole = await answerOf(chat(sim, fields));
  const text = await (
    await chat(sim, { ...fields, stream: true, stream_options: { include_usage: true } })
  ).text();
  expect(streamedText(text)).toBe(whole.texts[0] ?? "");
  const usage = JSON.parse(events(text).at(-2) ?? "").usage;
  expect(whole.usage).toMatchObject(usage);
  expect(usage.completion_tokens).toBe(64);
  expect(Buffer.byteLength(whole.texts[0] ?? "")).toBe(4 * 64);
  expect(whole.reasons).toEqual(["stop"]);
});

test("the same question has the same answer, on another engine too", async () => {
  await using one = await quickSim();
  await using two = await quickSim({ itlMs: 1 });
  const ask = async (sim: typeof one, content: string) =>
    streamedText(
      await (
        await chat(sim, { stream: true, max_tokens: 20, messages: [{ role: "user", content }] })
      ).text(),
    );
  const answer = await ask(one, "why?");
  expect(await ask(one, "why?")).toBe(answer);
  expect(await ask(two, "why?")).toBe(answer);
  expect(await ask(one, "why not?")).not.toBe(answer);
});

test("a broken answer goes on where it stopped, in chats and completions", async () => {
  await using sim = await quickSim();
  const messages = [{ role: "user", content: "tell me" }];
  const whole = (await answerOf(chat(sim, { messages, max_tokens: 30 }))).texts[0] ?? "";
  const begun = whole.slice(0, 44);
  const rest = await answerOf(
    chat(sim, {
      messages: [...messages, { role: "assistant", content: begun }],
      continue_final_message: true,
      add_generation_prompt: false,
      max_tokens: 19,
    }),
  );
  expect(begun + rest.texts[0]).toBe(whole);

  const complete = async (prompt: string, count: number) =>
    (await answerOf(post(sim, "/v1/completions", { prompt, max_tokens: count }))).texts[0] ?? "";
  const story = await complete("Once", 20);
  expect(story.slice(0, 40) + (await complete(`Once${story.slice(0, 40)}`, 10))).toBe(story);
});

test("several choices run side by side", async () => {
  await using sim = await quickSim();
  const fields = { n: 3, max_tokens: 5 };
  const whole = await answerOf(chat(sim, fields));
  expect(whole.usage.completion_tokens).toBe(15);
  expect(new Set(whole.texts).size).toBe(3);

  const stream = events(await (await chat(sim, { ...fields, stream: true })).text()).slice(0, -1);
  const said = ["", "", ""];
  const reasons: string[] = [];
  for (const event of stream) {
    const choice = JSON.parse(event).choices[0];
    said[choice.index] += choice.delta.content;
    if (choice.finish_reason) reasons.push(choice.finish_reason);
  }
  expect(said).toEqual(whole.texts);
  expect(reasons).toEqual(["length", "length", "length"]);
});

test("continuous usage is in every frame", async () => {
  await using sim = await quickSim();
  const options = { include_usage: true, continuous_usage_stats: true };
  for (const [path, prompt] of [
    ["/v1/chat/completions", { messages: [{ role: "user", content: "hello" }] }],
    ["/v1/completions", { prompt: "hello" }],
  ] as const) {
    const body = { ...prompt, stream: true, max_tokens: 3, stream_options: options };
    const all = events(await (await post(sim, path, body)).text()).slice(0, -1);
    const counts = all.map((event) => JSON.parse(event).usage.completion_tokens);
    expect(counts.filter((count, i) => i === 0 || count !== counts[i - 1]).slice(-3)).toEqual([
      1, 2, 3,
    ]);
  }
});

test("a reader that stops reading stops the engine, within bounds", async () => {
  await using sim = await quickSim({ maxModelLen: 2_000_000 });
  const client = await rawPost(
    sim,
    "/v1/chat/completions",
    chatBody({ stream: true, max_tokens: 400_000 }),
  );
  client.pause();
  const made = () => metric(sim, "vllm:generation_tokens_total");
  let produced = 0;
  let still = 0;
  await until("the engine stands still", async () => {
    const now = await made();
    still = now === produced && now > 0 ? still + 1 : 0;
    produced = now;
    return still >= 20;
  });
  // Kernel buffers and one burst: a few MB of the 90 MB that the whole answer has.
  expect(produced).toBeLessThan(100_000);
  client.resume();
  await until("the engine goes on", async () => (await made()) > produced);
  client.close();
  await until(
    "the request is gone",
    async () => (await metric(sim, "vllm:num_requests_running")) === 0,
  );
  expect(await metric(sim, "vllm:request_success_total", '"abort"')).toBe(1);
});

test("many streams at once do not mix", async () => {
  await using sim = await quickSim({ ttftMs: 10, itlMs: 3 });
  const ask = async (i: number) => {
    const messages = [{ role: "user", content: `question ${i}` }];
    const stream = chat(sim, { messages, stream: true, max_tokens: 20 });
    const whole = answerOf(chat(sim, { messages, max_tokens: 20 }));
    expect(streamedText(await (await stream).text())).toBe((await whole).texts[0] ?? "");
  };
  await Promise.all(Array.from({ length: 100 }, (_, i) => ask(i)));
  expect(await metric(sim, "vllm:generation_tokens_total")).toBe(100 * 2 * 20);
  expect(await metric(sim, "vllm:num_requests_running")).toBe(0);
});
