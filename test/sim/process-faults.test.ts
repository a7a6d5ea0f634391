import { afterEach, describe, expect, test } from "bun:test";
import { freePort } from "../helpers/free-port.ts";
import { readProcess } from "../../src/engine/process/proc.ts";
import { explainFailure } from "../../src/engine/diagnose/reasons.ts";
import { LlmnodeError } from "../../src/protocol/errors.ts";
import { FAILS, LIKES, type SimOptions } from "../../src/sim/core/options.ts";
import { chat, MODEL, quickSim, until, type TestSim } from "./harness.ts";

const pids: number[] = [];
afterEach(() => {
  for (const pid of pids.splice(0)) {
    try {
      process.kill(pid, "SIGKILL");
    } catch {
      // Gone already, as most of them should be.
    }
  }
});

const ROOT = `${import.meta.dir}/../..`;

/** An engine in a process of its own; `log` has stdout and stderr. */
function spawnSim(...flags: string[]) {
  const command = ["src/main.ts", "sim", "--model", MODEL, "--port", "0", ...flags];
  const child = Bun.spawn([process.execPath, ...command], {
    cwd: ROOT,
    stdio: ["ignore", "pipe", "pipe"],
  });
  pids.push(child.pid);
  let log = "";
  const read = async (stream: ReadableStream<Uint8Array>) => {
    for await (const chunk of stream) log += new TextDecoder().decode(chunk);
  };
  const readAll = Promise.all([read(child.stdout), read(child.stderr)]);
  return { child, log: () => log, readAll, isUp: () => log.includes("startup complete.") };
}

/** What a start says that ends in this process: its exit code and lines. */
async function startAndDie(options: Partial<SimOptions>) {
  const lines: string[] = [];
  const ended: { code: number | null } = { code: null };
  const end = await quickSim({
    ...options,
    print: (line) => void lines.push(line),
    exit: (exitCode) => {
      ended.code = exitCode;
      throw new Error("ended");
    },
  }).then(
    () => "started",
    (error: unknown) => (error instanceof LlmnodeError ? error.code : String(error)),
  );
  return { end, code: ended.code, lines };
}

/** "answered", or the code of the error of one GET. */
async function tryGet(sim: { port: number }, path = "/health"): Promise<string> {
  return fetch(`http://127.0.0.1:${sim.port}${path}`, { signal: AbortSignal.timeout(5_000) }).then(
    () => "answered",
    (error: unknown) =>
      error instanceof Error && "code" in error ? String(error.code) : String(error),
  );
}

describe("a start that fails", () => {
  for (const like of LIKES) {
    test.each([...FAILS])(
      `${like}: %s is understood by the supervisor, if it has it`,
      async (fail) => {
        const { end, code, lines } = await startAndDie({ like, fail });
        if (end === "usage") return;
        expect(end).toContain("ended");
        const told = explainFailure({
          kind: like,
          lines,
          exit: { code, signal: null },
          container: null,
        });
        expect(told?.failure).toBe(fail);
        expect(told?.hint).not.toBe("");
      },
    );
  }

  test("comes after what an engine has done until then", async () => {
    const { lines, code } = await startAndDie({ fail: "gpu_oom", like: "sglang" });
    expect(lines.findIndex((line) => line.includes("Load weight begin"))).toBeGreaterThan(0);
    expect(lines.some((line) => line.includes("KV Cache is allocated"))).toBe(false);
    expect(code).toBe(137);
    expect((await startAndDie({ fail: "bad_flag" })).code).toBe(2);
    expect((await startAndDie({ fail: "bad_flag", exitCode: 9 })).code).toBe(9);
  });

  test("what an engine does not say is refused in words", async () => {
    const { end, lines } = await startAndDie({ fail: "gated", like: "ollama" });
    expect([end, lines]).toEqual(["usage", []]);
  });
});

describe("a hang", () => {
  /** Whether a request is answered within a moment; a hung engine never does. */
  const isAnswered = async (answer: (signal: AbortSignal) => Promise<Response>) => {
    const patience = AbortSignal.timeout(300);
    return answer(patience).then(
      () => true,
      () => false,
    );
  };
  const health = (sim: TestSim) => isAnswered((signal) => fetch(`${sim.url}/health`, { signal }));

  test("after requests: those are answered, the next is not, nor is the health check", async () => {
    await using sim = await quickSim({ hangAfterRequests: 2 });
    for (let i = 0; i < 2; i += 1) expect((await chat(sim)).status).toBe(200);
    expect(await health(sim)).toBe(true);
    const body = JSON.stringify({ model: MODEL, messages: [] });
    const third = (signal: AbortSignal) =>
      fetch(`${sim.url}/v1/chat/completions`, { method: "POST", body, signal });
    expect(await isAnswered(third)).toBe(false);
    expect(await health(sim)).toBe(false);
    expect(sim.lines.at(-1)).toContain("hangs from now on, after 2 requests");
  });

  test("health may lie about it", async () => {
    await using sim = await quickSim({ hangAfterRequests: 0, healthLies: true });
    const asked = chat(sim).catch(() => "gone");
    await until("it hangs", () => sim.lines.at(-1)?.includes("hangs") ?? false);
    expect(await health(sim)).toBe(true);
    await sim.stop();
    await asked;
  });

  test("after a time: what runs stands still and is not ended", async () => {
    await using sim = await quickSim({ hangAfterMs: 100, itlMs: 5, healthLies: true });
    const leave = new AbortController();
    const response = await fetch(`${sim.url}/v1/chat/completions`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({
        model: MODEL,
        messages: [{ role: "user", content: "x" }],
        stream: true,
        max_tokens: 20_000,
      }),
      signal: leave.signal,
    });
    let bytes = 0;
    const reading = (async () => {
      for await (const chunk of response.body ?? []) bytes += chunk.length;
      return "ended";
    })().catch(() => "left");
    await until("it hangs", () => sim.lines.at(-1)?.includes("hangs") ?? false);
    await Bun.sleep(50);
    const seen = bytes;
    await Bun.sleep(100);
    expect(bytes).toBe(seen);
    leave.abort();
    expect(await reading).toBe("left");
  });
});

describe("the port", () => {
  test("bound late: it is not looked at before, and refused until then", async () => {
    const port = freePort();
    const other = Bun.listen({ hostname: "127.0.0.1", port, socket: { data() {} } });
    const taken = await startAndDie({ port, boundOnlyMs: 50 });
    expect(taken.end).toBe("port_in_use");
    const starting = quickSim({ port, bindLateMs: 300 });
    other.stop(true);
    expect(await tryGet({ port })).toBe("ECONNREFUSED");
    await using sim = await starting;
    expect(await tryGet(sim)).toBe("answered");
  });

  test("a late port that is taken fails late", async () => {
    const port = freePort();
    const other = Bun.listen({ hostname: "127.0.0.1", port, socket: { data() {} } });
    const { end, lines } = await startAndDie({ port, bindLateMs: 20 });
    other.stop(true);
    expect(end).toBe("port_in_use");
    expect(lines.some((line) => line.includes("init engine"))).toBe(true);
  });

  test("bound, not listening: refused until it listens", async () => {
    const port = freePort();
    const starting = quickSim({ port, boundOnlyMs: 300 });
    expect(await tryGet({ port })).toBe("ECONNREFUSED");
    await using sim = await starting;
    expect(await tryGet(sim)).toBe("answered");
  });

  test("as behind docker's proxy: taken and reset while it loads", async () => {
    const port = freePort();
    const starting = quickSim({ port, resetWhileLoading: true, loadTimeMs: 300 });
    let seen = "ECONNREFUSED";
    await until("the port is open", async () => (seen = await tryGet({ port })) !== "ECONNREFUSED");
    expect(seen).toBe("ECONNRESET");
    await using sim = await starting;
    expect(await tryGet(sim)).toBe("answered");
    expect((await startAndDie({ port: 0, resetWhileLoading: true })).end).toBe("usage");
  });

  test("idle connections are closed, silent answers are not", async () => {
    await using sim = await quickSim({ idleCloseS: 1, ttftMs: 2_500 });
    const body = JSON.stringify({
      model: MODEL,
      messages: [{ role: "user", content: "x" }],
      max_tokens: 2,
      stream: true,
    });
    let text = "";
    const closed = Promise.withResolvers<void>();
    await Bun.connect({
      hostname: "127.0.0.1",
      port: sim.port,
      socket: {
        open: (socket) =>
          void socket.write(
            `POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
          ),
        data: (_, bytes) => void (text += bytes.toString()),
        close: () => closed.resolve(),
      },
    });
    await closed.promise;
    expect(text).toContain("[DONE]");
    expect(text).toEndWith("0\r\n\r\n");
  }, 20_000);
});

describe("the log", () => {
  test("so many bytes of it, and no end of them while others get their turn", async () => {
    let bytes = 0;
    const print = (line: string) => void (bytes += line.length + 1);
    await using sim = await quickSim({ print, spamLog: { bytes: 1_000_000, perSecond: false } });
    await until("all is printed", () => bytes >= 1_000_000);
    expect(await tryGet(sim)).toBe("answered");
    expect(bytes).toBeLessThan(1_010_000);
  });

  test("so much each second, until it stops", async () => {
    let bytes = 0;
    const print = (line: string) => void (bytes += line.length + 1);
    const sim = await quickSim({ print, spamLog: { bytes: 200_000, perSecond: true } });
    await until("some is printed", () => bytes > 40_000);
    await sim.stop();
    const printed = bytes;
    await Bun.sleep(120);
    expect(bytes).toBe(printed);
  });

  test("percentages are drawn over each other", async () => {
    let drawn = "";
    const redraw = (text: string) => void (drawn += text);
    await using sim = await quickSim({ redrawProgress: true, redraw });
    expect(drawn).toContain("\rLoading safetensors checkpoint shards:  20%");
    expect(drawn).toContain("\rCapturing CUDA graphs (mixed prefill-decode, PIECEWISE): 100%\n");
    expect(sim.lines.some((line) => line.includes("%"))).toBe(false);
  });
});

describe("as a process", () => {
  test("it dies after a while, with the code that was asked for", async () => {
    const zero = spawnSim("--fault", "exit-after=20ms", "--fault", "exit-code=0");
    const killed = spawnSim("--fault", "exit-after=20ms", "--fault", "exit-code=137");
    expect(await zero.child.exited).toBe(0);
    await zero.readAll;
    expect(zero.log()).toContain("dying now, 20 ms after it was ready");
    await killed.child.exited;
    expect(killed.child.signalCode).toBe("SIGKILL");
  });

  test("on SIGTERM it kills itself", async () => {
    const sim = spawnSim("--fault", "kill-on-term");
    await until("it is up", sim.isUp);
    sim.child.kill("SIGTERM");
    await sim.child.exited;
    expect(sim.child.signalCode).toBe("SIGKILL");
  });

  test("its children outlive it, in its group and in a session of their own", async () => {
    const sim = spawnSim(
      ...["fork-child", "setsid-child", "progress-bar"].map((fault) => `--fault=${fault}`),
    );
    await until("it is up", sim.isUp);
    const children = [...sim.log().matchAll(/child (\d+) in/g)].map((match) => Number(match[1]));
    pids.push(...children);
    expect(children).toHaveLength(2);
    const [forked, apart] = await Promise.all(children.map((pid) => readProcess(pid)));
    const own = await readProcess(sim.child.pid);
    expect(forked?.group).toBe(own?.group ?? -1);
    expect(apart?.session).toBe(children[1] ?? -1);
    sim.child.kill("SIGKILL");
    await sim.child.exited;
    for (const pid of children) expect((await readProcess(pid))?.state).toMatch(/[SR]/);
    expect(sim.log()).toContain("\rLoading safetensors checkpoint shards:   0%");
  });
});
