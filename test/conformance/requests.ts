/** Lines 1, 2, 5, 6, 8 and 9: what a request may be, and what it is answered with. */

import { expect } from "bun:test";
import OpenAI from "openai";
import { chatAnswer, startEngine } from "../helpers/engine.ts";
import { CHAT, chat, startSimulated } from "./cluster.ts";
import { connect, statuses } from "./socket.ts";
import type { Line } from "./table.ts";

type ErrorJson = { error: { message: string; type: string; param: unknown; code: unknown } };

async function errorOf(response: Response) {
  const { error } = (await response.json()) as ErrorJson;
  expect(Object.keys(error).sort()).toEqual(["code", "message", "param", "type"]);
  return { status: response.status, ...error };
}

const BODIES: [string, string][] = [
  [
    "numbers beyond 2^53, 1e400, -0",
    '{"model":"m","a":9007199254740993,"b":1e400,"c":-0,"d":0.10}',
  ],
  ["white space and key order", '{\r\n\t"z" : 1 , "model":"m", "a": [ ] }\n'],
  ["an escaped key", '{"mod\\u0065l":"m","x":"\\ud83d\\ude00 \\/"}'],
  ["duplicate models, of which the last counts", '{"model":"none","model":"m"}'],
  ["a model in a nested object before", '{"messages":[{"model":"none"}],"model":"m"}'],
  ["nesting of 500 levels", `{"x":${"[".repeat(500)}${"]".repeat(500)},"model":"m"}`],
  ["the model behind 1 MB", `{"messages":"${"é".repeat(500_000)}","model":"m"}`],
  [
    "fields that only the engine knows",
    '{"model":"m","guided_json":{},"chat_template_kwargs":null}',
  ],
];

const BAD: [string, string | Uint8Array, string | null][] = [
  ["no JSON", "{", null],
  ["nothing", "", null],
  ["an array", '[{"model":"m"}]', null],
  ["text after the object", '{"model":"m"}{}', null],
  ["a control character in a string", '{"model":"m","x":"\n"}', null],
  ["no model", "{}", "model"],
  ["an empty model", '{"model":""}', "model"],
  ["a model that is null", '{"model":null}', "model"],
  ["a model that is a list", '{"model":["m"]}', "model"],
  ["a last model that is a number", '{"model":"m","model":1}', "model"],
  [
    "invalid UTF-8",
    Buffer.concat([
      Buffer.from('{"model":"m","x":"'),
      Buffer.from([0xc3, 0x28]),
      Buffer.from('"}'),
    ]),
    null,
  ],
  ["a byte order mark", "\ufeff{}", null],
  ["nesting of 600 levels", `{"x":${"[".repeat(600)}${"]".repeat(600)},"model":"m"}`, null],
  ["nesting that never closes", '{"a":'.repeat(50_000), null],
];

export const REQUESTS: readonly Line[] = [
  {
    line: 1,
    title: "unknown fields, order and numbers reach the engine byte for byte",
    async run(transport) {
      await using engine = startEngine(() => chatAnswer("ok"));
      await using cluster = await transport.start({ binary: [], engines: [engine] });
      for (const [what, body] of BODIES) {
        expect([what, (await cluster.post(CHAT, body)).status]).toEqual([what, 200]);
        expect(engine.seen.at(-1)?.body === body).toBe(true);
      }
    },
  },
  {
    line: 1,
    title: "only the allowed edits are made",
    async run(transport) {
      await using engine = startEngine(() => chatAnswer("ok"));
      await using cluster = await transport.start({ binary: [], engines: [engine] });
      const edited: [string, string][] = [
        // What is removed is blanked: nothing has to move.
        ['{"backend":"vllm", "a":1.0,"model":"m"}', `{${" ".repeat(18)}"a":1.0,"model":"m"}`],
        ['{"a":1.0,"model":"m" , "backend":"vllm"}', `{"a":1.0,"model":"m"${" ".repeat(19)}}`],
        [
          '{ "model":"m","stream":true,"x":1e400}',
          '{"stream_options":{"include_usage":true}, "model":"m","stream":true,"x":1e400}',
        ],
        [
          '{"model":"m","stream":true,"stream_options":{"include_usage": false,"k":[1]}}',
          '{"model":"m","stream":true,"stream_options":{"include_usage": true,"k":[1]}}',
        ],
        [
          '{"model":"m","stream":true,"stream_options":{"include_usage":true }}',
          '{"model":"m","stream":true,"stream_options":{"include_usage":true }}',
        ],
      ];
      for (const [sent, arrived] of edited) {
        await (await cluster.post(CHAT, sent)).text();
        expect(engine.seen.at(-1)?.body).toBe(arrived);
      }
    },
  },
  {
    line: 2,
    title: "what is no request is a 400 that names the field",
    async run(transport) {
      await using cluster = await transport.start({ binary: [], engines: [] });
      for (const [what, body, param] of BAD) {
        const response = await fetch(`${cluster.url}${CHAT}`, { method: "POST", body });
        const error = await errorOf(response);
        expect([what, error.status, error.type, error.param, error.code]).toEqual([
          what,
          400,
          "invalid_request_error",
          param,
          null,
        ]);
      }
    },
  },
  {
    line: 5,
    title: "an engine's 400 and 422 keep status and message and are not repeated",
    async run(transport) {
      const message = "This model's maximum context length is 8 tokens.";
      const refusals: [number, object][] = [
        [400, { object: "error", message, type: "BadRequestError", param: null, code: 400 }],
        [422, { error: message, error_type: "validation" }],
        [400, { error: { message, type: "BadRequestError", param: null, code: 400 } }],
      ];
      let at = 0;
      const refuse = () => {
        const [status, body] = refusals[at] ?? [500, {}];
        return Response.json(body, { status });
      };
      await using a = startEngine(refuse);
      await using b = startEngine(refuse);
      await using cluster = await transport.start({ binary: [], engines: [a, b] });
      for (at = 0; at < refusals.length; at += 1) {
        const response = await cluster.post(CHAT, chat());
        expect(response.headers.get("x-llmnode-attempts")).toBe("1");
        expect(await errorOf(response)).toMatchObject({ status: refusals[at]?.[0], message });
      }
      expect(a.seen.length + b.seen.length).toBe(refusals.length);
      await using sim = await startSimulated({ maxModelLen: 64, models: ["short"] });
      await using real = await transport.start({
        binary: [],
        engines: [{ port: sim.port, models: ["short"] }],
      });
      const long = chat({ model: "short", max_tokens: 1000 });
      expect(await errorOf(await real.post(CHAT, long))).toMatchObject({ status: 400 });
    },
  },
  {
    line: 6,
    title: "models: one list without duplicates, ids with slashes, no sick worker in it",
    async run(transport) {
      await using good = startEngine(() => chatAnswer("ok"));
      const sick = startEngine(() => chatAnswer("ok"));
      const models = ["Qwen/Qwen3-8B", "b"];
      await using cluster = await transport.start({
        binary: [],
        engines: [
          { port: good.port, models },
          { port: sick.port, models: [...models, "only-sick"] },
        ],
      });
      sick.kill();
      const client = new OpenAI({ baseURL: `${cluster.url}/v1`, apiKey: "k" });
      const ids = (await Array.fromAsync(client.models.list())).map(({ id }) => id);
      expect(new Set(ids).size).toBe(ids.length);
      expect(ids).toContain("Qwen/Qwen3-8B");
      expect((await client.models.retrieve("Qwen/Qwen3-8B")).id).toBe("Qwen/Qwen3-8B");
      for (const path of ["Qwen/Qwen3-8B", "Qwen%2FQwen3-8B", "Qwen%2fQwen3-8B"]) {
        const card = (await (await fetch(`${cluster.url}/v1/models/${path}`)).json()) as object;
        expect(card).toMatchObject({ id: "Qwen/Qwen3-8B", object: "model" });
      }
      expect((await fetch(`${cluster.url}/v1/models/none`)).status).toBe(404);
    },
  },
  {
    line: 8,
    title: "embeddings from the SDK: base64 by default, 2048 inputs, no null fields",
    async run(transport) {
      await using sim = await startSimulated();
      await using seeing = startEngine(() =>
        Response.json({
          object: "list",
          data: [{ object: "embedding", index: 0, embedding: [1] }],
        }),
      );
      await using cluster = await transport.start({
        binary: [],
        engines: [sim, { port: seeing.port, models: ["seen"] }],
      });
      const client = new OpenAI({ baseURL: `${cluster.url}/v1`, apiKey: "k" });
      const input = Array.from({ length: 2048 }, (_, i) => `text ${i}`);
      const { data } = await client.embeddings.create({ model: "m", input });
      expect([data.length, data.at(-1)?.index]).toEqual([2048, 2047]);
      expect(typeof data[0]?.embedding[0]).toBe("number");
      await client.embeddings.create({ model: "seen", input: "x" });
      expect(JSON.parse(seeing.seen[0]?.body ?? "")).toEqual({
        model: "seen",
        input: "x",
        encoding_format: "base64",
      });
    },
  },
  {
    line: 9,
    title: "unknown paths 404, wrong methods 405, HEAD and OPTIONS right, CORS off",
    async run(transport) {
      await using cluster = await transport.start({ binary: [], engines: [] });
      const cases: [string, string, number, string | null][] = [
        ["GET", "/nowhere", 404, null],
        ["POST", "/v1/load_lora_adapter", 404, null],
        ["POST", "/sleep", 404, null],
        ["POST", "/v1/../sleep", 404, null],
        ["POST", "/v1/chat/completions/", 404, null],
        ["POST", "/v1//chat/completions", 404, null],
        ["GET", CHAT, 405, "POST"],
        ["PUT", CHAT, 405, "POST"],
        ["OPTIONS", CHAT, 405, "POST"],
        ["DELETE", "/v1/models", 405, "GET, HEAD"],
        ["HEAD", "/v1/models", 200, null],
        ["HEAD", "/nowhere", 404, null],
        ["GET", "/v1/realtime", 501, null],
      ];
      for (const [method, path, status, allow] of cases) {
        using client = await connect(cluster.port);
        client.write(
          `${method} ${path} HTTP/1.1\r\nHost: h\r\nOrigin: http://page.test\r\nConnection: close\r\n\r\n`,
        );
        const answer = await client.closed();
        expect([method, path, ...statuses(answer)]).toEqual([method, path, status]);
        expect(/^allow: (.*)\r$/im.exec(answer)?.[1] ?? null).toBe(allow);
        expect(answer).not.toMatch(/access-control/i);
        if (method === "HEAD") expect(answer).toEndWith("\r\n\r\n");
        else if (status !== 200) expect(answer).toContain('{"error":{"message":');
      }
    },
  },
  {
    line: 9,
    title: "CORS for one origin, when it is asked for",
    async run(transport) {
      await using engine = startEngine(() => chatAnswer("ok"));
      const binary = ["--cors", "http://page.test"];
      await using cluster = await transport.start({ binary, engines: [engine] });
      const preflight = await fetch(`${cluster.url}${CHAT}`, {
        method: "OPTIONS",
        headers: {
          origin: "http://page.test",
          "access-control-request-method": "POST",
          "access-control-request-headers": "authorization,content-type",
        },
      });
      expect(preflight.status).toBe(204);
      expect(preflight.headers.get("access-control-allow-origin")).toBe("http://page.test");
      expect(preflight.headers.get("access-control-allow-headers")).toContain("authorization");
      const ask = (origin: string) => cluster.post(CHAT, chat(), { headers: { origin } });
      const allowed = (await ask("http://page.test")).headers;
      expect(allowed.get("access-control-allow-origin")).toBe("http://page.test");
      expect(
        (await ask("http://other.test")).headers.get("access-control-allow-origin"),
      ).toBeNull();
    },
  },
];
