/** Lines 10 to 14: the headers of requests and answers. */

import { expect } from "bun:test";
import { gzipSync } from "node:zlib";
import { ROUTES } from "../../src/proxy/request/routes.ts";
import { chatAnswer, eventStream, startEngine, startRawEngine } from "../helpers/engine.ts";
import { CHAT, chat } from "./cluster.ts";
import { connect, rawPost } from "./socket.ts";
import type { Line } from "./table.ts";

const OWN_ID = /^req-[0-9a-f-]{36}$/;
const DONE = "data: [DONE]\n\n";

export const HEADERS: readonly Line[] = [
  {
    line: 10,
    title: "every answer has a request id; a sound one is the client's own",
    async run(transport) {
      await using engine = startEngine(() => chatAnswer("ok"));
      await using failing = startEngine(() => new Response("boom", { status: 500 }));
      await using cluster = await transport.start({
        binary: [],
        engines: [engine, { port: failing.port, models: ["bad"] }],
      });
      const ask = async (path: string, id: string, init: RequestInit = {}) =>
        (
          await fetch(`${cluster.url}${path}`, { ...init, headers: { "x-request-id": id } })
        ).headers.get("x-request-id");
      const post = (body: object) => ({ method: "POST", body: JSON.stringify(body) });
      for (const id of ["mine-1", "!~", "x".repeat(128)]) {
        expect(await ask(CHAT, id, post(chat()))).toBe(id);
        expect(engine.seen.at(-1)?.headers.get("x-request-id")).toBe(id);
      }
      for (const id of ["", "a b", "x".repeat(129), "é"]) {
        const given = await ask(CHAT, id, post(chat()));
        expect(given).toMatch(OWN_ID);
        expect(engine.seen.at(-1)?.headers.get("x-request-id")).toBe(given);
      }
      const paths: [string, RequestInit][] = [
        ["/nowhere", {}],
        ["/v1/models", {}],
        ["/v1/models/none", {}],
        ["/health/live", {}],
        ["/v1/models/%E0%A4%A", {}],
        [CHAT, {}],
        [CHAT, post({})],
        [CHAT, post(chat({ model: "none" }))],
        [CHAT, post(chat({ model: "bad" }))],
      ];
      for (const [path, init] of paths) expect(await ask(path, "mine-2", init)).toBe("mine-2");
    },
  },
  {
    line: 11,
    title: "trace headers reach the engine on every route, credentials and hops on none",
    async run(transport) {
      await using engine = startEngine(() => Response.json({}));
      const engines = ["generic", "tgi", "ollama"].map((kind) => {
        return { port: engine.port, kind, models: [kind === "generic" ? "m" : kind] };
      });
      await using cluster = await transport.start({ binary: [], engines });
      const sent: Record<string, string> = {
        traceparent: "00-1-2-01",
        tracestate: "a=b",
        authorization: "Bearer secret",
        "x-api-key": "secret",
        cookie: "a=b",
        "x-stainless-lang": "js",
        "x-stainless-os": "Linux",
        "proxy-authorization": "Basic x",
        "x-forwarded-for": "1.2.3.4",
        "x-forwarded-host": "evil.test",
        "x-forwarded-proto": "https",
        forwarded: "for=1.2.3.4",
        te: "trailers",
        "keep-alive": "timeout=5",
        "x-hop": "1",
        "x-llmnode-anything": "1",
        // A header named here is for this connection, even one that would pass otherwise.
        connection: "x-hop, x-session-id",
        "x-session-id": "s",
        host: "evil.test",
      };
      const lines = Object.entries(sent).map(([name, value]) => `${name}: ${value}`);
      const form = '--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nm\r\n--b--\r\n';
      for (const route of ROUTES.values()) {
        using client = await connect(cluster.port);
        const body = route.body === "multipart" ? form : '{"model":"m"}';
        const type = route.body === "multipart" ? "multipart/form-data; boundary=b" : "text/plain";
        const head = [
          `${route.method} ${route.path} HTTP/1.1`,
          ...lines,
          ...(route.method === "GET"
            ? []
            : [`content-type: ${type}`, `content-length: ${body.length}`]),
        ];
        client.write(`${head.join("\r\n")}\r\n\r\n${route.method === "GET" ? "" : body}`);
        await client.until((text) => text.includes("\r\n\r\n"), `an answer of ${route.path}`);
        const seen = engine.seen.at(-1);
        expect(seen?.path).toBe(route.path);
        const arrived = [...(seen?.headers.keys() ?? [])].filter((name) => name in sent).sort();
        // `connection` and `host` are the head's own.
        expect([route.path, ...arrived]).toEqual([
          route.path,
          "connection",
          "host",
          "traceparent",
          "tracestate",
        ]);
        expect(seen?.headers.get("host")).not.toContain("evil");
        expect(seen?.headers.get("connection")).not.toContain("x-hop");
      }
    },
  },
  {
    line: 11,
    title: "what an engine says of itself and its connection stays there",
    async run(transport) {
      await using engine = startEngine(() =>
        Response.json(
          {},
          {
            headers: {
              "set-cookie": "a=b",
              server: "uvicorn",
              "x-powered-by": "secret",
              "keep-alive": "timeout=5",
              "access-control-allow-origin": "*",
              "retry-after": "7",
              "openai-processing-ms": "5",
            },
          },
        ),
      );
      await using cluster = await transport.start({ binary: [], engines: [engine] });
      const { headers } = await cluster.post(CHAT, chat());
      for (const name of ["set-cookie", "server", "x-powered-by", "access-control-allow-origin"]) {
        expect([name, headers.get(name)]).toEqual([name, null]);
      }
      expect([headers.get("retry-after"), headers.get("openai-processing-ms")]).toEqual(["7", "5"]);
    },
  },
  {
    line: 12,
    title: "identity is asked for; a body that comes encoded all the same agrees with its header",
    async run(transport) {
      const text = JSON.stringify({ text: "x".repeat(5000) });
      const zipped = gzipSync(text);
      await using engine = startEngine(
        () => new Response(zipped, { headers: { "content-encoding": "gzip" } }),
      );
      await using cluster = await transport.start({ binary: [], engines: [engine] });
      const response = await cluster.post(CHAT, chat());
      expect(response.headers.get("content-encoding")).toBe("gzip");
      expect(await response.text()).toBe(text);
      expect(engine.seen[0]?.headers.get("accept-encoding")).toBe("identity");
      using client = await connect(cluster.port);
      client.write(rawPost(CHAT, JSON.stringify(chat()), ["Connection: close"]));
      const answer = await client.closed();
      expect(/content-length: (\d+)/i.exec(answer)?.[1]).toBe(String(zipped.length));
      expect(
        Buffer.from(answer.slice(answer.indexOf("\r\n\r\n") + 4), "latin1").equals(zipped),
      ).toBe(true);
    },
  },
  {
    line: 12,
    title: "a stream that comes encoded passes chunk by chunk, unread",
    async run(transport) {
      const gate = Promise.withResolvers<void>();
      await using engine = startRawEngine((socket) => {
        const head =
          "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-encoding: br\r\n" +
          "transfer-encoding: chunked\r\n\r\n";
        socket.write(`${head}3\r\nabc\r\n`);
        void gate.promise.then(() => socket.write("3\r\ndef\r\n0\r\n\r\n"));
      });
      await using cluster = await transport.start({ binary: [], engines: [engine] });
      using client = await connect(cluster.port);
      client.write(rawPost(CHAT, JSON.stringify(chat({ stream: true })), ["Connection: close"]));
      await client.until((text) => text.includes("abc"), "the first chunk");
      gate.resolve();
      const answer = await client.closed();
      expect(answer).toMatch(/content-encoding: br/i);
      expect(answer).toContain("def");
    },
  },
  {
    line: 12,
    title: "no stale content-length: what is dropped from a stream is not counted",
    async run(transport) {
      const usage = 'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1}}\n\n';
      const sent = `data: {"choices":[{}]}\n\n${usage}${DONE}`;
      await using engine = startEngine(
        () => new Response(sent, { headers: { "content-type": "text/event-stream" } }),
      );
      await using cluster = await transport.start({ binary: [], engines: [engine] });
      const response = await cluster.post(CHAT, chat({ stream: true }));
      expect(await response.text()).toBe(`data: {"choices":[{}]}\n\n${DONE}`);
    },
  },
  {
    line: 13,
    title: "streams say that they are streams, and are not to be held back",
    async run(transport) {
      await using engine = startEngine(() => eventStream([DONE]));
      await using cluster = await transport.start({ binary: [], engines: [engine] });
      const { headers } = await cluster.post(CHAT, chat({ stream: true }));
      expect(headers.get("content-type")).toStartWith("text/event-stream");
      expect(headers.get("cache-control")).toBe("no-cache");
      expect(headers.get("x-accel-buffering")).toBe("no");
    },
  },
  {
    line: 14,
    title: "answers tell worker, attempts and waiting, never an address; it can be switched off",
    async run(transport) {
      await using engine = startEngine(() => chatAnswer("ok"));
      await using cluster = await transport.start({ binary: [], engines: [engine] });
      const { headers } = await cluster.post(CHAT, chat());
      expect(headers.get("x-llmnode-worker")).toMatch(/^[A-Za-z0-9._-]+$/);
      expect(headers.get("x-llmnode-attempts")).toBe("1");
      expect(headers.get("x-llmnode-queue-ms")).toMatch(/^\d+$/);
      expect(JSON.stringify([...headers])).not.toContain("127.0.0.1");
      const binary = ["--no-info-headers"];
      await using silent = await transport.start({ binary, engines: [engine] });
      const names = [...(await silent.post(CHAT, chat())).headers.keys()];
      expect(names.filter((name) => name.startsWith("x-llmnode-"))).toEqual([]);
    },
  },
];
