import { expect, test } from "bun:test";
import { freePort } from "../../helpers/free-port.ts";
import { parseAttachUrl } from "../../../src/engine/supervise/attached.ts";
import { LlmnodeError } from "../../../src/protocol/errors.ts";
import { createLog } from "../../../src/util/log.ts";
import { startEngine, until } from "../harness.ts";

function fakeOllama(port: number, models = ["llama3.2:latest"]) {
  return Bun.serve({
    hostname: "127.0.0.1",
    port,
    fetch(request) {
      const { pathname } = new URL(request.url);
      const tags = models.map((name) => ({ name, model: name }));
      if (pathname === "/") return new Response("Ollama is running");
      if (pathname === "/v1/models") return Response.json({ object: "list", data: null });
      if (pathname === "/api/tags") {
        return Response.json({
          models: [...tags, { name: "big:cloud", remote_host: "ollama.com" }],
        });
      }
      if (pathname === "/api/ps") {
        return Response.json({ models: [{ name: models[0], context_length: 8192 }] });
      }
      return new Response("404 page not found", { status: 404 });
    },
  });
}

test("an engine that is not there yet is waited for, and said once", async () => {
  const port = freePort();
  const said: string[] = [];
  const log = createLog({ format: "logfmt", write: (line) => void said.push(line) });
  await using engine = await startEngine({ attach: `http://127.0.0.1:${port}` }, { log });
  await until(() => engine.supervisor.status().reason !== null, "a reason");
  expect(engine.supervisor.status()).toMatchObject({
    state: "starting",
    kind: "generic",
    pid: null,
    port,
    url: `http://127.0.0.1:${port}`,
    reason: `127.0.0.1:${port}: connection refused`,
  });
  const server = fakeOllama(port);
  const ready = await engine.reaches("ready");
  expect(ready.kind).toBe("ollama");
  expect(ready.models).toEqual([
    {
      id: "llama3.2:latest",
      parent: null,
      maxModelLen: 8192,
      loaded: true,
      card: '{"created":0,"owned_by":"library"}',
    },
  ]);
  expect(said.filter((line) => line.includes("does not answer"))).toHaveLength(1);
  await engine.supervisor.stop();
  expect((await fetch(server.url)).status).toBe(200);
  await server.stop(true);
});

test("an attached engine that goes away is unhealthy, and may come back as another one", async () => {
  const port = freePort();
  const first = fakeOllama(port);
  await using engine = await startEngine({ attach: `http://127.0.0.1:${port}/` });
  await engine.reaches("ready");
  await first.stop(true);
  expect((await engine.reaches("unhealthy")).reason).not.toBeNull();
  const second = Bun.serve({
    hostname: "127.0.0.1",
    port,
    fetch: (request) =>
      request.url.endsWith("/v1/models")
        ? Response.json({ data: [{ id: "q", owned_by: "sglang" }] })
        : new Response(""),
  });
  const ready = await engine.reaches("ready");
  expect(ready.kind).toBe("sglang");
  expect(ready.models.map((model) => model.id)).toEqual(["q"]);
  await second.stop(true);
});

test("a port that accepts and hangs up is an engine that still starts", async () => {
  let refusals = 0;
  const proxy = Bun.listen({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      open(socket) {
        refusals += 1;
        socket.terminate();
      },
      data() {},
    },
  });
  await using engine = await startEngine({ attach: `http://127.0.0.1:${proxy.port}` });
  await until(() => refusals >= 4, "some probes");
  expect(engine.supervisor.status().state).toBe("starting");
  proxy.stop(true);
  const server = fakeOllama(proxy.port);
  await engine.reaches("ready");
  await server.stop(true);
});

test("an engine that wants a key says so", async () => {
  await using server = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    fetch: () => Response.json({ error: "Unauthorized" }, { status: 401 }),
  });
  await using engine = await startEngine({ attach: server.url.origin });
  await until(() => engine.supervisor.status().reason !== null, "a reason");
  expect(engine.supervisor.status().reason).toContain("wants its API key");
});

test("addresses of engines are scheme and host, nothing more", () => {
  expect(parseAttachUrl("http://127.0.0.1:11434/")).toEqual({
    url: "http://127.0.0.1:11434",
    host: "127.0.0.1",
    port: 11434,
    https: false,
  });
  expect(parseAttachUrl("https://gpu.example")).toMatchObject({ port: 443, https: true });
  expect(parseAttachUrl("http://[::1]:8000")).toMatchObject({ host: "::1", port: 8000 });
  const wrong = [
    "127.0.0.1:11434",
    "ftp://x",
    "http://x/v1",
    "http://u:p@x",
    "http://x?y",
    "",
    "x",
  ];
  for (const text of wrong) {
    expect(() => parseAttachUrl(text)).toThrow(LlmnodeError);
  }
});
