/** The clients of a drill: they ask, read all that comes, and note how it went. */

import { bodyOf, judgeStream, type Judgement, type Question } from "./stream.ts";
import { randomFrom, type Sample } from "./tally.ts";

/** After an error a client takes a breath, or a head that is away would eat all its requests. */
const BREATH_MS = 100;

const FEWEST_TOKENS = 16;
const MOST_TOKENS = 48;
const SHORT_REPEATS = 20;
const LONG_REPEATS = 5000;
const LONG_SHARE = 0.2;

export interface LoadOptions {
  url: string;
  clients: number;
  /** Of each client, at least. */
  requests: number;
  seed: number;
  /** A request without an end for so long is hung. */
  limitMs: number;
  signal: AbortSignal;
}

export interface Load {
  /** Milliseconds since it began. */
  now(): number;
  readonly samples: readonly Sample[];
  /** When clients got frames. */
  readonly frames: readonly number[];
  /** When the first client had nothing left to ask. */
  readonly endAt: number;
  /** A request beside those of the clients; it counts as theirs do. */
  ask(question: Question): Promise<Sample>;
  /** From now on a client that has made its requests stops. */
  finish(): Promise<void>;
}

/** Starts asking at once; each client asks its next question when the last one is answered. */
export function startLoad(options: LoadOptions): Load {
  const { clients, requests, seed, signal } = options;
  const began = performance.now();
  const now = () => performance.now() - began;
  const samples: Sample[] = [];
  const frames: number[] = [];
  let isFinishing = false;
  let endAt = Number.POSITIVE_INFINITY;

  const ask = async (question: Question): Promise<Sample> => {
    const sample = await askOnce(question, { ...options, now, frame: () => frames.push(now()) });
    if (!signal.aborted) samples.push(sample);
    return sample;
  };
  const client = async (number: number) => {
    const random = randomFrom(seed * 1000 + number);
    for (let i = 0; !signal.aborted && (i < requests || !isFinishing); i++) {
      // Some prompts are long enough that a fault finds them unanswered.
      const most = random() < LONG_SHARE ? LONG_REPEATS : SHORT_REPEATS;
      const filler = "tell me more ".repeat(Math.floor(random() * most));
      const content = `drill ${seed}, client ${number}, question ${i}: ${filler}`;
      const tokens = FEWEST_TOKENS + Math.floor(random() * (MOST_TOKENS - FEWEST_TOKENS + 1));
      const { kind } = await ask({ content, tokens });
      if (kind === "error") await Bun.sleep(BREATH_MS);
    }
    endAt = Math.min(endAt, now());
  };
  const all = Promise.all(Array.from({ length: clients }, (_, number) => client(number)));
  return {
    now,
    samples,
    frames,
    get endAt() {
      return Math.min(endAt, now());
    },
    ask,
    async finish() {
      isFinishing = true;
      await all;
    },
  };
}

interface AskContext extends Pick<LoadOptions, "url" | "limitMs" | "signal"> {
  now: () => number;
  /** A frame has come. */
  frame: () => void;
}

async function askOnce(question: Question, context: AskContext): Promise<Sample> {
  const { now, url, limitMs, signal } = context;
  const beganAt = now();
  const limit = AbortSignal.timeout(limitMs);
  let lastAt = beganAt;
  let silenceMs = 0;
  const heard = () => {
    silenceMs = Math.max(silenceMs, now() - lastAt);
    lastAt = now();
  };
  const end = ({ kind, why, resumed }: Omit<Judgement, "kind"> & { kind: Sample["kind"] }) => {
    heard();
    return { beganAt, endedAt: now(), kind, why, resumed, silenceMs };
  };
  let text = "";
  try {
    const response = await fetch(`${url}/v1/chat/completions`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: bodyOf(question),
      signal: AbortSignal.any([limit, signal]),
      // The head is what is looked at, not this client's pool of connections.
      keepalive: false,
    });
    if (!response.ok || response.body === null) {
      const said = await response.text();
      return end({
        kind: "error",
        why: `status ${response.status}: ${codeOf(said)}`,
        resumed: false,
      });
    }
    const decoder = new TextDecoder();
    for await (const chunk of response.body) {
      heard();
      const part = decoder.decode(chunk, { stream: true });
      for (let at = part.indexOf("data:"); at >= 0; at = part.indexOf("data:", at + 5)) {
        context.frame();
      }
      text += part;
    }
    return end(judgeStream(text, question));
  } catch (error) {
    const resumed = judgeStream(text, question).resumed;
    if (limit.aborted) return end({ kind: "hung", why: whereHung(text), resumed });
    return end({ kind: "error", why: `connection: ${messageOf(error)}`, resumed });
  }
}

function whereHung(text: string): string {
  const frames = text.split("data:").length - 1;
  return frames === 0 ? "before its first frame" : "in the middle of its answer";
}

/** The code of an error body, or its beginning. */
export function codeOf(body: string): string {
  return /"code":\s*"([^"]+)"/.exec(body)?.[1] ?? body.slice(0, 80);
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
