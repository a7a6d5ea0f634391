/** What the tests of the simulated engine share: quick engines, raw sockets, waiting. */

import { SIM_DEFAULTS, startSim, type Sim, type SimOptions } from "../../src/sim/sim.ts";

export const MODEL = "test/model-1";

export interface TestSim extends Sim {
  lines: string[];
}

/** An engine on a free port without any delay, unless told otherwise. */
export async function quickSim(
  options: Partial<SimOptions> = {},
  signal?: AbortSignal,
): Promise<TestSim> {
  const lines: string[] = [];
  const all = {
    ...SIM_DEFAULTS,
    models: [MODEL],
    port: 0,
    ttftMs: 0,
    itlMs: 0,
    print: (line: string) => lines.push(line),
    ...options,
  };
  const sim = await startSim(all, signal);
  return { ...sim, lines };
}

export function post(
  sim: Sim,
  path: string,
  body: unknown,
  init: { signal?: AbortSignal; headers?: Record<string, string> } = {},
): Promise<Response> {
  return fetch(sim.url + path, {
    method: "POST",
    body: typeof body === "string" ? body : JSON.stringify(body),
    ...init,
    headers: { "content-type": "application/json", ...init.headers },
  });
}

export function chat(sim: Sim, fields: Record<string, unknown> = {}): Promise<Response> {
  return post(sim, "/v1/chat/completions", chatBody(fields));
}

export function chatBody(fields: Record<string, unknown> = {}): Record<string, unknown> {
  return { model: MODEL, messages: [{ role: "user", content: "hello" }], ...fields };
}

export interface Answer {
  texts: string[];
  reasons: string[];
  usage: { prompt_tokens: number; total_tokens: number; completion_tokens: number };
}

/** What a whole answer says, choice by choice. */
export async function answerOf(response: Promise<Response>): Promise<Answer> {
  const body: {
    choices: { message?: { content: string }; text?: string; finish_reason: string }[];
    usage: Answer["usage"];
  } = JSON.parse(await (await response).text());
  return {
    texts: body.choices.map((choice) => choice.message?.content ?? choice.text ?? ""),
    reasons: body.choices.map((choice) => choice.finish_reason),
    usage: body.usage,
  };
}

/** The `data:` payloads of a whole stream. */
export function events(text: string): string[] {
  return text
    .split("\n\n")
    .filter((part) => part !== "")
    .map((part) => part.replace(/^data: /, ""));
}

/** The objects of a stream of JSON lines. */
export function lines(text: string): unknown[] {
  return text
    .trimEnd()
    .split("\n")
    .map((line): unknown => JSON.parse(line));
}

/** The named events of a stream, each with its data. */
export function namedEvents(text: string): { name: string; data: Record<string, unknown> }[] {
  return text
    .trimEnd()
    .split("\n\n")
    .map((part) => {
      const [, name = "", data = "{}"] = /^event: (.*)\ndata: (.*)$/.exec(part) ?? [];
      return { name, data: JSON.parse(data) };
    });
}

/** The text that a stream's first choice says. */
export function streamedText(text: string): string {
  return events(text)
    .filter((event) => event !== "[DONE]")
    .map((event) => JSON.parse(event).choices?.[0])
    .map((choice) => choice?.delta?.content ?? choice?.text ?? "")
    .join("");
}

/** The value of one series of `/metrics`, NaN if there is none. */
export async function metric(sim: { url: string }, name: string, label = ""): Promise<number> {
  const text = await (await fetch(`${sim.url}/metrics`)).text();
  const line = text
    .split("\n")
    .find(
      (one) => (one.startsWith(`${name}{`) || one.startsWith(`${name} `)) && one.includes(label),
    );
  return line ? Number(line.slice(line.lastIndexOf(" ") + 1)) : Number.NaN;
}

export async function until(
  what: string,
  holds: () => boolean | Promise<boolean>,
  timeoutMs = 10_000,
): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error(`waited in vain for: ${what}`);
    await Bun.sleep(5);
  }
}

export interface RawAnswer {
  /** All bytes so far. */
  text(): string;
  /** Settles when the connection is gone. */
  closed: Promise<void>;
  pause(): void;
  resume(): void;
  close(): void;
}

/** A POST over a bare socket, to see exactly what arrives. */
export async function rawPost(sim: Sim, path: string, body: unknown): Promise<RawAnswer> {
  const payload = JSON.stringify(body);
  const chunks: Buffer[] = [];
  const closed = Promise.withResolvers<void>();
  const socket = await Bun.connect({
    hostname: "127.0.0.1",
    port: sim.port,
    socket: {
      open(opened) {
        opened.write(
          `POST ${path} HTTP/1.1\r\nhost: sim\r\ncontent-type: application/json\r\ncontent-length: ${Buffer.byteLength(payload)}\r\n\r\n${payload}`,
        );
      },
      data: (_, bytes) => void chunks.push(Buffer.from(bytes)),
      close: () => closed.resolve(),
      error: () => closed.resolve(),
    },
  });
  return {
    text: () => Buffer.concat(chunks).toString(),
    closed: closed.promise,
    pause: () => socket.pause(),
    resume: () => socket.resume(),
    close: () => socket.terminate(),
  };
}
