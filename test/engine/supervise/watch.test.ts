import { expect, test } from "bun:test";
import { LlmnodeError } from "../../../src/protocol/errors.ts";
import { type EngineOptions, startEngine, type TestEngine, until } from "../harness.ts";

/** An engine whose every answer the test may change. */
function server(routes: Record<string, () => Response | Promise<Response>>) {
  const seen: string[] = [];
  const hosts = new Set<string | null>();
  let running = 0;
  let most = 0;
  const http = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    async fetch(request) {
      const { pathname } = new URL(request.url);
      seen.push(pathname);
      hosts.add(request.headers.get("host"));
      if (pathname !== "/health") return routes[pathname]?.() ?? new Response("", { status: 404 });
      running += 1;
      most = Math.max(most, running);
      try {
        return (await routes[pathname]?.()) ?? new Response("", { status: 404 });
      } finally {
        running -= 1;
      }
    },
  });
  return {
    url: http.url.origin,
    port: http.port ?? 0,
    seen,
    hosts,
    mostHealthAtOnce: () => most,
    [Symbol.asyncDispose]: () => http.stop(true),
  };
}

const models = (owner: string) => () => Response.json({ data: [{ id: "m", owned_by: owner }] });
const ok = () => new Response("");
const attach = (url: string, options: EngineOptions = {}): Promise<TestEngine> =>
  startEngine({ attach: url }, options);

test("an engine whose tokens flow is ready, whatever its health route says", async () => {
  let tokens = 0;
  let flows = true;
  let isWell = true;
  await using engine = server({
    "/health": () => new Response("", { status: isWell ? 200 : 503 }),
    "/v1/models": models("vllm"),
    "/metrics": () => {
      if (flows) tokens += 1;
      return new Response(`vllm:num_requests_running 1\nvllm:generation_tokens_total ${tokens}\n`);
    },
  });
  await using worker = await attach(engine.url, {
    settings: { load: { everyMs: 15 }, flowGraceMs: 200 },
  });
  await worker.reaches("ready");
  await until(() => tokens > 3, "figures that move");
  isWell = false;
  const from = engine.seen.length;
  await until(
    () => engine.seen.slice(from).filter((path) => path === "/health").length > 6,
    "failed probes",
  );
  expect(worker.supervisor.status().state).toBe("ready");
  flows = false;
  expect((await worker.reaches("unhealthy")).reason).toContain("GET /health answers 503");
  isWell = true;
  await worker.reaches("ready");
});

test("an engine that sits on its health answer is asked one at a time, and given its time", async () => {
  await using engine = server({
    "/health": () => Bun.sleep(150).then(ok),
    "/v1/models": models("sglang"),
  });
  // Its own patience: longer than one answer takes, while probes are due far more often.
  await using worker = await attach(engine.url, { settings: { probeTimeoutMs: null } });
  await worker.reaches("ready");
  const from = engine.seen.length;
  await until(
    () => engine.seen.slice(from).filter((path) => path === "/health").length >= 3,
    "probes",
  );
  expect(worker.changes.map(({ state }) => state)).not.toContain("unhealthy");
  expect(engine.mostHealthAtOnce()).toBe(1);
});

test("requests at once: its user, else the engine, else its kind, else 256", async () => {
  await using llama = server({
    "/health": ok,
    "/v1/models": models("llamacpp"),
    "/props": () => Response.json({ total_slots: 6 }),
  });
  await using vllm = server({ "/health": ok, "/v1/models": models("vllm") });
  await using silent = server({ "/health": ok, "/v1/models": models("llamacpp") });
  const cases: [string, number | null, number][] = [
    [llama.url, 9, 9],
    [llama.url, null, 6],
    [silent.url, null, 4],
    [vllm.url, null, 256],
  ];
  for (const [url, maxInFlight, expected] of cases) {
    await using worker = await attach(url, { maxInFlight });
    expect((await worker.reaches("ready")).maxInFlight).toBe(expected);
  }
});

test("Ollama on loopback wants its own host name; others any", async () => {
  const routes = {
    "/": () => new Response("Ollama is running"),
    "/v1/models": () => Response.json({ data: null }),
    "/api/tags": () => Response.json({ models: [] }),
    "/api/ps": () => Response.json({ models: [] }),
  };
  await using ollama = server(routes);
  await using worker = await attach(ollama.url);
  const status = await worker.reaches("ready");
  expect(status).toMatchObject({ kind: "ollama", hostHeader: `127.0.0.1:${ollama.port}` });
  expect([...ollama.hosts]).toEqual([`127.0.0.1:${ollama.port}`]);
  await using vllm = server({ "/health": ok, "/v1/models": models("vllm") });
  await using other = await attach(vllm.url);
  expect((await other.reaches("ready")).hostHeader).toBeNull();
});

test("with a path of its user's, a server without models is ready while that path answers", async () => {
  let status = 503;
  await using service = server({ "/ok": () => new Response("", { status }) });
  await using worker = await attach(service.url, { healthPath: "/ok" });
  await until(() => worker.supervisor.status().reason !== null, "a reason");
  expect(worker.supervisor.status().state).toBe("starting");
  status = 204;
  expect(await worker.reaches("ready")).toMatchObject({ kind: "generic", models: [] });
  status = 500;
  expect((await worker.reaches("unhealthy")).reason).toContain("GET /ok answers 500");
});

test("a command that opens no HTTP port is refused with what to do, unless its port is named", async () => {
  const argv = ["vllm", "serve", "m", "--headless"];
  const start = (port: number | null) =>
    startEngine({ argv }, { port, env: { PATH: "/nowhere" } }).then(
      async (engine) => {
        await engine[Symbol.asyncDispose]();
        return null;
      },
      (error: unknown) => error,
    );
  const refused = await start(null);
  expect(refused).toBeInstanceOf(LlmnodeError);
  expect(refused).toMatchObject({ code: "usage", hints: [expect.stringContaining("--port")] });
  expect(String(refused)).toContain("--headless");
  expect(await start(9)).toMatchObject({ code: "engine_not_found" });
});
