/** What load and engine of the front's benchmark say to each other, through whatever is between. */

export const MODEL = "bench";
export const PATH = "/v1/chat/completions";

/** Frames are of one length, so that number and time are read by position. */
const FRAME_HEAD = `data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":0,"model":"${MODEL}","choices":[{"index":0,"delta":{"content":"`;
const FRAME_TAIL = `"},"logprobs":null,"finish_reason":null}]}\n\n`;
const NUMBER_CHARS = 8;
const TIME_CHARS = 16;
const DONE = "data: [DONE]\n\n";

/**
 * Microseconds on a clock that all processes of a machine share to within a few, which is the same
 * for every target: both ends of a stream are always the same two processes.
 */
export function sharedClockUs(): number {
  return Math.round((performance.timeOrigin + performance.now()) * 1000);
}

/** A frame with the time of its sending, in a chunk of HTTP's. */
export function frameChunk(number: number, timeUs: number): string {
  const content = `${pad(number, NUMBER_CHARS)}${pad(timeUs, TIME_CHARS)}`;
  return chunk(`${FRAME_HEAD}${content}${FRAME_TAIL}`);
}

/** The end of a stream, in chunks of HTTP's. */
export function lastChunks(): string {
  return `${chunk(DONE)}0\r\n\r\n`;
}

export interface Frame {
  number: number;
  sentUs: number;
}

/**
 * Finds frames in a stream's bytes, in any split. `onFrame` gets null for the end mark; anything
 * else than frames, the end mark and comments is counted as `strange`.
 */
export function createFrameReader(onFrame: (frame: Frame | null) => void): {
  push(bytes: Buffer): void;
  readonly strange: number;
} {
  let rest = "";
  let strange = 0;
  const take = (text: string) => {
    if (text.length === FRAME_LENGTH && text.startsWith(FRAME_HEAD)) {
      const at = FRAME_HEAD.length + NUMBER_CHARS;
      const number = Number(text.slice(FRAME_HEAD.length, at));
      onFrame({ number, sentUs: Number(text.slice(at, at + TIME_CHARS)) });
    } else if (text === DONE) {
      onFrame(null);
    } else if (!text.startsWith(":")) {
      strange += 1;
    }
  };
  return {
    get strange() {
      return strange;
    },
    push(bytes) {
      const text = rest + bytes.toString("latin1");
      let at = 0;
      for (let end = text.indexOf("\n\n"); end !== -1; end = text.indexOf("\n\n", at)) {
        take(text.slice(at, end + 2));
        at = end + 2;
      }
      rest = text.slice(at);
    },
  };
}

const FRAME_LENGTH = FRAME_HEAD.length + NUMBER_CHARS + TIME_CHARS + FRAME_TAIL.length;

/**
 * What a stream's request asks of the engine. It is the text of the first message: some relays write
 * bodies anew, with members in an order of their own and without those that they do not know.
 */
export interface StreamWish {
  /** Events a second. */
  rate: number;
  frames: number;
}

/** The headers that a target needs besides the usual ones. */
export type ExtraHeaders = Readonly<Record<string, string>>;

/** A request with an answer in one piece; its body has `bytes` bytes, at least 100. */
export function plainRequest(bytes: number, headers: ExtraHeaders): Buffer {
  const start = `{"model":"${MODEL}","messages":[{"role":"user","content":"`;
  const end = `"}]}`;
  return request(start + "a".repeat(Math.max(0, bytes - start.length - end.length)) + end, headers);
}

export function streamRequest(wish: StreamWish, headers: ExtraHeaders): Buffer {
  const content = `Send ${wish.frames} events at ${wish.rate} a second.`;
  const messages = [{ role: "user", content }];
  return request(JSON.stringify({ model: MODEL, stream: true, messages }), headers);
}

/** The wish in the first bytes of a body; null for a request without stream. */
export function readWish(body: string): StreamWish | null {
  const match = /"Send (\d+) events at ([\d.]+) a second\."/.exec(body);
  return match === null ? null : { rate: Number(match[2]), frames: Number(match[1]) };
}

function request(body: string, headers: ExtraHeaders): Buffer {
  const extra = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  return Buffer.from(
    `POST ${PATH} HTTP/1.1\r\nhost: 127.0.0.1\r\nuser-agent: bench\r\naccept: */*\r\n` +
      `content-type: application/json\r\n${extra.join("")}content-length: ${body.length}\r\n\r\n${body}`,
  );
}

function chunk(text: string): string {
  return `${text.length.toString(16)}\r\n${text}\r\n`;
}

function pad(n: number, chars: number): string {
  return String(n).padStart(chars, "0");
}
