import { afterEach, describe, expect, test } from "bun:test";
import { LlmnodeError } from "../../src/protocol/errors.ts";
import { loadLines } from "../../src/sim/like/vllm.ts";
import { SIM_DEFAULTS, startSim } from "../../src/sim/sim.ts";
import {
  chat,
  chatBody,
  events,
  metric,
  quickSim,
  rawPost,
  streamedText,
  until,
} from "./harness.ts";

const children: Bun.Subprocess[] = [];
afterEach(async () => {
  for (const child of children.splice(0)) {
    child.kill("SIGKILL");
    await child.exited;
  }
});

/** An engine in a process of its own, once it is ready. */
async function spawnSim(options: Record<string, unknown>) {
  const child = Bun.spawn(
    [process.execPath, `${import.meta.dir}/fixtures/run-sim.ts`, JSON.stringify(options)],
    { stdout: "pipe", stderr: "inherit", stdin: "ignore" },
  );
  children.push(child);
  let log = "";
  const read = (async () => {
    for await (const chunk of child.stdout) log += new TextDecoder().decode(chunk);
  })();
  await until("the engine is up", () => log.includes("Application startup complete."));
  const url = /Starting vLLM server on (http:\S+) /.exec(log)?.[1] ?? "";
  return { child, url, port: Number(new URL(url).port), log: () => log, read };
}

function codeOf(start: Promise<unknown>): Promise<string> {
  return start.then(
    () => "started",
    (error: unknown) => (error instanceof LlmnodeError ? error.code : String(error)),
  );
}

describe("start", () => {
  test("prints a banner that says simulated, the address, and that it is up", async () => {
    await using sim = await quickSim({ models: ["a\u001b[31m/b", "c"] });
    expect(sim.lines[0]).toBe(
      "llmnode sim: a simulated engine, no model runs here; serving a/b, c",
    );
    expect(sim.lines.slice(-2)).toEqual([
      `llmnode sim: Starting vLLM server on http://127.0.0.1:${sim.port} (simulated)`,
      "Application startup complete.",
    ]);
    expect(sim.url).toBe(`http://127.0.0.1:${sim.port}`);
  });

  test("the load goes through vLLM's phases, port closed until it is over", async () => {
    const spot = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data: () => undefined } });
    const { port } = spot;
    spot.stop(true);
    const starting = quickSim({ port, loadTimeMs: 300 });
    await Bun.sleep(50);
    await expect(fetch(`http://127.0.0.1:${port}/health`)).rejects.toThrow();
    await using sim = await starting;
    const order = [
      /simulated engine/,
      /^Starting to load model test\/model-1/,
      /^Loading safetensors checkpoint shards: {2}40% Completed \| 2\/5$/,
      /^Loading weights took/,
      /^Compiling a graph/,
      /^Capturing CUDA graphs .*: 100%$/,
      /^init engine .* took 0.30 s/,
      /Starting vLLM server on/,
    ].map((pattern) => sim.lines.findIndex((line) => pattern.test(line)));
    expect(order).toEqual(order.toSorted((a, b) => a - b));
    expect(order).not.toContain(-1);
    expect((await fetch(`${sim.url}/health`)).status).toBe(200);
  });

  test("the lines of a load are in the order of their times", () => {
    const times = loadLines("m", 1000).map((line) => line.at);
    expect(times).toEqual(times.toSorted((a, b) => a - b));
    expect(times.at(-1)).toBe(1);
  });

  test("a taken port is told at once, by its address", async () => {
    await using sim = await quickSim();
    const again = quickSim({ port: sim.port, loadTimeMs: 60_000 });
    expect(await codeOf(again)).toBe("port_in_use");
    await expect(again).rejects.toThrow(`127.0.0.1:${sim.port} is already in use`);
  });

  test("an address of another machine, and no model", async () => {
    expect(await codeOf(quickSim({ host: "203.0.113.7" }))).toBe("address_unusable");
    expect(await codeOf(quickSim({ models: [] }))).toBe("usage");
  });

  test("the signal breaks a load off, later it stops the engine", async () => {
    const stop = new AbortController();
    const options = { ...SIM_DEFAULTS, models: ["m"], port: 0, print: () => undefined };
    const long = startSim({ ...options, loadTimeMs: 60_000 }, stop.signal);
    const sim = await startSim(options, stop.signal);
    stop.abort(new Error("enough"));
    await expect(long).rejects.toThrow("enough");
    await sim.stop();
    await expect(fetch(sim.url)).rejects.toThrow();
    await expect(startSim(options, stop.signal)).rejects.toThrow("enough");
  });
});

describe("stop", () => {
  test("ends running answers with the finish reason abort", async () => {
    const sim = await quickSim({ itlMs: 20 });
    const stream = chat(sim, { stream: true, stream_options: { include_usage: true } });
    const whole = chat(sim);
    const text = (await stream).text();
    await until("both run", async () => (await metric(sim, "vllm:num_requests_running")) === 2);
    await Promise.all([sim.stop(), sim.stop()]);
    const end = events(await text).slice(-3);
    expect(JSON.parse(end[0] ?? "").choices[0].finish_reason).toBe("abort");
    expect(JSON.parse(end[1] ?? "").usage.completion_tokens).toBe(
      streamedText(await text).length / 4,
    );
    expect(end[2]).toBe("[DONE]");
    expect(await (await whole).json()).toMatchObject({ choices: [{ finish_reason: "abort" }] });
    await expect(fetch(`${sim.url}/health`)).rejects.toThrow();
    await sim.stop();
  });

  test("cuts a client that does not read, after the deadline", async () => {
    const sim = await quickSim({ maxModelLen: 2_000_000, stopTimeoutMs: 50 });
    const client = await rawPost(
      sim,
      "/v1/chat/completions",
      chatBody({ stream: true, max_tokens: 400_000 }),
    );
    client.pause();
    await until("it runs", async () => (await metric(sim, "vllm:generation_tokens_total")) > 0);
    await sim.stop();
    client.close();
    await client.closed;
  });
});

describe("a process of its own", () => {
  test("crash-after ends it with exit code 1 when one request has its tokens", async () => {
    const sim = await spawnSim({ crashAfterTokens: 6, itlMs: 5 });
    const short = await chat({ ...stub, ...sim }, { max_tokens: 5 });
    expect(short.status).toBe(200);
    const client = await rawPost(
      { ...stub, ...sim },
      "/v1/chat/completions",
      chatBody({ stream: true }),
    );
    await client.closed;
    expect(await sim.child.exited).toBe(1);
    await sim.read;
    expect(client.text().match(/"content":"[^"]+"/g)).toHaveLength(6);
    expect(client.text()).not.toContain("[DONE]");
    expect(client.text()).not.toEndWith("0\r\n\r\n");
    expect(sim.log()).toContain("dying now, after 6 tokens of one request (simulated)");
  });

  test("crash-after strikes for whole answers, and when the client has just gone", async () => {
    const sim = await spawnSim({ crashAfterTokens: 6, itlMs: 5 });
    const asked = chat({ ...stub, ...sim }).catch(() => "broken");
    expect(await asked).toBe("broken");
    expect(await sim.child.exited).toBe(1);

    const other = await spawnSim({ crashAfterTokens: 3, itlMs: 1 });
    const client = await rawPost(
      { ...stub, ...other },
      "/v1/chat/completions",
      chatBody({ stream: true }),
    );
    await until("the last token came", () => client.text().includes('"ed] "'));
    client.close();
    expect(await other.child.exited).toBe(1);
  });

  test("crash-on-text ends it before the first byte of a prompt that has the text", async () => {
    const sim = await spawnSim({ crashOnText: "poison", itlMs: 5 });
    const { status } = await chat({ ...stub, ...sim }, { max_tokens: 5 });
    expect(status).toBe(200);
    const client = await rawPost({ ...stub, ...sim }, "/v1/completions", {
      prompt: "some poison here",
      stream: true,
    });
    await client.closed;
    expect(await sim.child.exited).toBe(1);
    await sim.read;
    expect(client.text()).not.toContain("data:");
    expect(sim.log()).toContain("CUDA error: an illegal memory access was encountered");
    expect(sim.log()).toContain(
      "dying now, of a prompt with the text of --fault crash-on-text (simulated)",
    );
  });

  test("crash-on-text needs a text", async () => {
    const refused = await quickSim({ crashOnText: "" }).catch((error: unknown) => String(error));
    expect(refused).toContain("every prompt contains the empty text");
  });

  test("ends by itself after a stop: nothing keeps it alive", async () => {
    const sim = await spawnSim({});
    sim.child.kill("SIGTERM");
    expect(await sim.child.exited).toBe(0);
  });

  test("told to ignore TERM, it goes on", async () => {
    const sim = await spawnSim({ ignoreTerm: true });
    sim.child.kill("SIGTERM");
    expect((await chat({ ...stub, ...sim }, { max_tokens: 20 })).status).toBe(200);
    expect(sim.child.exitCode).toBeNull();
  });
});

const stub = { stop: () => Promise.resolve(), [Symbol.asyncDispose]: () => Promise.resolve() };
