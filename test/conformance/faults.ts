/** Lines 18 to 20: engines that fail. */

import { expect } from "bun:test";
import OpenAI from "openai";
import { eventStream, startEngine, startRawEngine } from "../helpers/engine.ts";
import { waitFor } from "../helpers/wait.ts";
import { CHAT, chat, startSimulated } from "./cluster.ts";
import type { Line } from "./table.ts";

const DONE = "data: [DONE]\n\n";
const messages = [{ role: "user" as const, content: "hi" }];
const openai = (url: string) => new OpenAI({ baseURL: `${url}/v1`, apiKey: "k", maxRetries: 0 });

export const FAULTS: readonly Line[] = [
  {
    line: 18,
    title: "an engine killed after N frames: N frames, one error frame, the SDK throws",
    async run(transport) {
      await using sim = await startSimulated({ dieMidStreamTokens: 5 });
      await using cluster = await transport.start({ binary: [], engines: [sim] });
      const text = await (await cluster.post(CHAT, chat({ stream: true }))).text();
      const frames = text.trimEnd().split("\n\n");
      expect(text).not.toContain("[DONE]");
      expect(frames.filter((frame) => frame.includes('"error"')).length).toBe(1);
      expect(JSON.parse(frames.at(-1)?.slice(6) ?? "")).toMatchObject({
        error: { type: "upstream_error", code: "upstream_broken" },
      });
      expect(text).not.toMatch(/"finish_reason":"/);
      const stream = await openai(cluster.url).chat.completions.create({
        model: "m",
        messages,
        stream: true,
      });
      let tokens = 0;
      const reading = (async () => {
        for await (const chunk of stream) if (chunk.choices[0]?.delta.content) tokens += 1;
      })();
      await expect(reading).rejects.toThrow("died before its answer was complete");
      expect(tokens).toBe(5);
      await cluster.idle();
    },
  },
  {
    line: 18,
    title: "in every dialect the last frame is an error as its clients know it",
    async run(transport) {
      const cut = (type: string, frame: string) =>
        startRawEngine((socket) => {
          socket.write(
            `HTTP/1.1 200 OK\r\ncontent-type: ${type}\r\ntransfer-encoding: chunked\r\n\r\n`,
          );
          socket.write(`${frame.length.toString(16)}\r\n${frame}\r\n`);
          setTimeout(() => socket.end(), 20);
        });
      await using sse = cut("text/event-stream", 'data: {"a":1}\n\n');
      await using lines = cut("application/x-ndjson", '{"done":false}\n{"do');
      await using cluster = await transport.start({
        binary: [],
        engines: [
          { port: sse.port, kind: "vllm" },
          { port: lines.port, kind: "ollama", models: ["o"] },
        ],
      });
      const said = "The engine died before its answer was complete.";
      const ends: [string, object, string][] = [
        [
          "/v1/messages",
          { model: "m", stream: true },
          `event: error\ndata: {"type":"error","error":{"type":"api_error","message":"${said}"}}\n\n`,
        ],
        [
          "/v1/responses",
          { model: "m", stream: true },
          `event: error\ndata: {"type":"error","code":"upstream_broken","message":"${said}","param":null}\n\n`,
        ],
        ["/api/chat", { model: "o" }, `{"done":false}\n{"do\n{"error":"${said}"}\n`],
      ];
      for (const [path, body, end] of ends) {
        expect(await (await cluster.post(path, body)).text()).toEndWith(end);
      }
    },
  },
  {
    line: 18,
    title: "with resume, the answer completes",
    async run(transport) {
      await using doomed = await startSimulated({ dieMidStreamTokens: 5 });
      await using sound = await startSimulated();
      await using cluster = await transport.start({ binary: [], engines: [doomed, sound] });
      const ask = async () => {
        const text = await (await cluster.post(CHAT, chat({ stream: true }))).text();
        const said = [...text.matchAll(/"content":"([^"]*)"/g)].map(([, piece]) => piece).join("");
        return { said, ends: text.split(DONE).length - 1, resumed: text.includes("-resumed\n\n") };
      };
      const answers: Awaited<ReturnType<typeof ask>>[] = [];
      // Which engine is asked first is open.
      while (answers.length < 100 && !answers.some(({ resumed }) => resumed)) {
        answers.push(await ask());
      }
      expect(answers.at(-1)?.resumed).toBe(true);
      expect(new Set(answers.map(({ said }) => said)).size).toBe(1);
      expect(answers.every(({ ends }) => ends === 1)).toBe(true);
      await cluster.idle();
    },
  },
  {
    line: 19,
    title: "a first frame that is an error, with status 200, is a proper HTTP error",
    async run(transport) {
      const frames: [string, string, number][] = [
        [
          "text/event-stream",
          `data: {"error":{"message":"bad","type":"BadRequestError","code":400}}\n\n${DONE}`,
          400,
        ],
        [
          "text/event-stream",
          `data: {"error":{"object":"error","message":"bad","code":507}}\n\n${DONE}`,
          507,
        ],
        [
          "text/event-stream",
          'data: {"object":"error","message":"bad","type":"x","code":422}\n\n',
          422,
        ],
        ["text/event-stream", 'data: {"error":"bad","error_type":"validation"}\n\n', 400],
        [
          "text/event-stream",
          'event: error\ndata: {"type":"error","error":{"type":"invalid_request_error","message":"bad"}}\n\n',
          400,
        ],
        [
          "text/event-stream",
          'event: error\ndata: {"type":"error","error":{"type":"api_error","message":"bad"}}\n\n',
          500,
        ],
        ["application/x-ndjson", '{"error":"bad"}\n', 500],
      ];
      let at = 0;
      let isSized = false;
      await using engine = startEngine(() => {
        const [type = "", text = ""] = frames[at] ?? [];
        const headers = { "content-type": type };
        return new Response(isSized ? text : eventStream([text]).body, { headers });
      });
      await using cluster = await transport.start({ binary: [], engines: [engine] });
      for (isSized of [false, true]) {
        for (at = 0; at < frames.length; at += 1) {
          const response = await cluster.post(CHAT, chat({ stream: true }));
          expect([at, response.status]).toEqual([at, frames[at]?.[2] ?? 0]);
          expect(response.headers.get("content-type")).toBe("application/json");
          expect(await response.json()).toMatchObject({ error: { message: "bad" } });
        }
      }
      await cluster.idle();
    },
  },
  {
    line: 20,
    title: "an engine that dies before its first byte is replaced; after it, never",
    async run(transport) {
      const head =
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
      let sent = head;
      await using dying = startRawEngine((socket) => {
        socket.write(sent);
        setTimeout(() => socket.end(), 10);
      });
      await using good = startEngine(() => eventStream(['data: {"good":1}\n\n', DONE]));
      await using cluster = await transport.start({ binary: [], engines: [dying, good] });
      const attempts = async () => {
        const response = await cluster.post(CHAT, chat({ stream: true }));
        const text = await response.text();
        return {
          attempts: response.headers.get("x-llmnode-attempts"),
          text,
          status: response.status,
        };
      };
      const seen = new Set<string | null>();
      await waitFor(async () => {
        const answer = await attempts();
        expect([answer.status, answer.text]).toEqual([200, `data: {"good":1}\n\n${DONE}`]);
        seen.add(answer.attempts);
        return seen.size === 2;
      });
      expect([...seen].sort()).toEqual(["1", "2"]);
      sent = `${head}11\r\ndata: {"bad":1}\n\n\r\n`;
      await waitFor(async () => {
        const { text, attempts: count } = await attempts();
        if (!text.includes("bad")) return false;
        expect([count, text.includes("good"), text.includes('"upstream_broken"')]).toEqual([
          "1",
          false,
          true,
        ]);
        return true;
      });
    },
  },
];
