import { describe, expect, test } from "bun:test";
import { probeReady } from "../../src/engine/ask/probe.ts";
import { readAddress } from "../../src/engine/diagnose/log-lines.ts";
import { PRESETS } from "../../src/engine/presets/all.ts";
import { DIALECTS } from "../../src/sim/sim.ts";
import { LIKE_PORTS, LIKES } from "../../src/sim/core/options.ts";
import { chat, events, post, quickSim } from "./harness.ts";

describe.each([...LIKES])("%s", (like) => {
  test("the worker knows it by talking to it, and reads its models", async () => {
    await using sim = await quickSim({ like, healthTimeMs: 0, maxModelLen: 4096 });
    const ready = await probeReady(
      { url: sim.url, apiKey: null, probeTimeoutMs: null, answerMaxBytes: 1_000_000 },
      "generic",
      AbortSignal.timeout(10_000),
    );
    // The default says that it is no engine at all.
    expect(ready.kind).toBe(like === "vllm" ? "sim" : like);
    const id = like === "ollama" ? "test/model-1:latest" : "test/model-1";
    const loaded = like === "ollama" ? false : null;
    const maxModelLen = like === "ollama" ? null : 4096;
    expect(ready.models).toMatchObject([{ id, parent: null, maxModelLen, loaded }]);
  });

  test("the address in its log is where it listens, and the line says that it is simulated", async () => {
    await using sim = await quickSim({ like });
    const line = sim.lines.find((one) => readAddress(one) !== null) ?? "";
    expect(readAddress(line)).toEqual({ host: "127.0.0.1", port: sim.port });
    expect(line).toEndWith("(simulated)");
    expect(LIKE_PORTS[like]).toBe(PRESETS[like].defaultPort ?? 0);
  });

  test("the lines of a load are in the order of their times", () => {
    const times = DIALECTS[like].loadLines("m", 1000).map((line) => line.at);
    expect(times).toEqual(times.toSorted((a, b) => a - b));
    if (like !== "ollama") expect([times[0], times.at(-1)]).toEqual([0, 1]);
  });

  test("stream and whole answer say the same text, which is that of every other kind", async () => {
    await using sim = await quickSim({ like });
    await using plain = await quickSim();
    const fields = { max_tokens: 20, stream: true, stream_options: { include_usage: true } };
    const text = await (await chat(sim, fields)).text();
    const frames = events(text)
      .slice(0, -1)
      .map((one) => JSON.parse(one));
    const said = frames.map((one) => one.choices[0]?.delta?.content ?? "").join("");
    const whole = await (await chat(sim, { max_tokens: 20 })).json();
    const other = await (await chat(plain, { max_tokens: 20 })).json();
    expect(Object(whole).choices[0].message.content).toBe(said);
    expect(Object(other).choices[0].message.content).toBe(said);
    const { usage } = frames.at(-1);
    expect(frames.at(-1).choices).toEqual([]);
    expect(usage).toMatchObject({ prompt_tokens: 6, completion_tokens: 20, total_tokens: 26 });
    expect(Object(whole).usage).toMatchObject(usage);
    expect(text).toEndWith("data: [DONE]\n\n");
  });

  test("no-done leaves [DONE] out, refuse-stream-options refuses them", async () => {
    await using sim = await quickSim({ like, noDone: true, refuseStreamOptions: true });
    const text = await (await chat(sim, { stream: true, max_tokens: 1 })).text();
    expect(text).not.toContain("[DONE]");
    const stream_options = { include_usage: true };
    const refused = await chat(sim, { stream: true, stream_options });
    expect(refused.status).toBe(like === "tgi" ? 422 : 400);
    expect(await refused.text()).toContain("stream_options");
  });

  test("admin routes leave a line in the log each time", async () => {
    await using sim = await quickSim({ like });
    const { adminRoutes } = DIALECTS[like];
    for (const entry of adminRoutes) {
      const [method = "", path = ""] = entry.split(" ");
      const answer = await fetch(sim.url + path.replace("*", "0"), { method });
      expect([entry, answer.status]).toEqual([entry, 200]);
    }
    const calls = sim.lines.filter((line) => line.includes("admin call"));
    expect(calls).toEqual(
      adminRoutes.map(
        (entry, i) => `llmnode sim: admin call ${i + 1}: ${entry} (simulated, nothing changes)`,
      ),
    );
    // TGI has none.
    expect(adminRoutes.length).toBeGreaterThanOrEqual(like === "tgi" ? 0 : 2);
  });

  test("a broken body never takes it down", async () => {
    await using sim = await quickSim({ like });
    const paths = [
      "/v1/chat/completions",
      "/v1/completions",
      "/generate",
      "/api/chat",
      "/completion",
    ];
    for (const path of paths) {
      for (const body of ["{", "[]", '{"messages":7,"prompt":7,"inputs":7,"stream":7}']) {
        const { status } = await post(sim, path, body);
        expect([path, body, status >= 400 && status < 500]).toEqual([path, body, true]);
      }
    }
    expect((await chat(sim, { max_tokens: 1 })).status).toBe(200);
  });
});

test("options that cannot be are refused", async () => {
  const adapters = [{ name: "a", base: "test/model-1" }];
  await expect(quickSim({ like: "tgi", adapters })).rejects.toThrow("lists no LoRA adapters");
  const lost = [{ name: "a", base: "other" }];
  await expect(quickSim({ adapters: lost })).rejects.toThrow("needs the model other");
  await expect(quickSim({ errorInStreamTokens: 0 })).rejects.toThrow("after 1 token");
});
