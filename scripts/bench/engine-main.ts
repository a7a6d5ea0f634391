/** The engine of the benchmark: as cheap as can be, on raw sockets, in a process of its own. */

import { createMessageReader, createWriter, type MessageReader, type Writer } from "./http1.ts";
import { frameChunk, lastChunks, MODEL, readWish, sharedClockUs } from "./wire.ts";

/** How often streams are looked after; events are spread evenly over their period. */
const TICK_MS = 2;
/** Of a body, to find out what is wanted. */
const BODY_HEAD_BYTES = 512;
/** A stream whose client does not read is ended. */
const MAX_WAITING_BYTES = 1024 * 1024;

interface Stream {
  writer: Writer;
  socket: Bun.Socket<Peer>;
  number: number;
  frames: number;
  dueMs: number;
  periodMs: number;
}

interface Peer {
  reader: MessageReader;
  writer: Writer;
  stream: Stream | null;
}

const ANSWER = answer({
  id: "chatcmpl-bench",
  object: "chat.completion",
  created: 0,
  model: MODEL,
  choices: [
    { index: 0, message: { role: "assistant", content: "Twenty-three." }, finish_reason: "stop" },
  ],
  usage: { prompt_tokens: 12, completion_tokens: 5, total_tokens: 17 },
});
// A vLLM, for whoever asks: ready by /health, one model.
const MODELS = answer({
  object: "list",
  data: [{ id: MODEL, object: "model", created: 0, owned_by: "vllm", max_model_len: 32_768 }],
});
const HEALTHY = answer({});
const NOT_FOUND = `HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n`;
const STREAM_HEAD =
  "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n";

const streams = new Set<Stream>();

const listener = Bun.listen<Peer>({
  hostname: "127.0.0.1",
  port: 0,
  socket: {
    open(socket) {
      socket.setNoDelay(true);
      const writer = createWriter(socket);
      socket.data = { writer, stream: null, reader: readerOf(socket, writer) };
    },
    data(socket, data) {
      socket.data.reader.push(data);
    },
    drain(socket) {
      socket.data.writer.drain();
    },
    end: forget,
    close: forget,
    error: forget,
  },
});

function readerOf(socket: Bun.Socket<Peer>, writer: Writer): MessageReader {
  let line = "";
  let body = "";
  return createMessageReader({
    head(head) {
      line = head.slice(0, head.indexOf("\r\n"));
      body = "";
    },
    body(bytes) {
      if (body.length >= BODY_HEAD_BYTES) return;
      body += bytes.toString("latin1", 0, BODY_HEAD_BYTES);
    },
    end() {
      if (line.startsWith("POST ")) {
        const wish = readWish(body);
        if (wish === null) return writer.write(ANSWER);
        writer.write(STREAM_HEAD);
        const periodMs = 1000 / wish.rate;
        const dueMs = performance.now();
        const stream = { socket, writer, number: 0, frames: wish.frames, dueMs, periodMs };
        streams.add(stream);
        socket.data.stream = stream;
      } else if (line.startsWith("GET /v1/models ")) {
        writer.write(MODELS);
      } else {
        writer.write(line.startsWith("GET /health ") ? HEALTHY : NOT_FOUND);
      }
    },
  });
}

function forget(socket: Bun.Socket<Peer>): void {
  const { stream } = socket.data;
  if (stream !== null) streams.delete(stream);
  socket.end();
}

setInterval(() => {
  const now = performance.now();
  const timeUs = sharedClockUs();
  for (const stream of streams) {
    if (stream.dueMs > now) continue;
    stream.dueMs += stream.periodMs;
    stream.writer.write(frameChunk(stream.number, timeUs));
    stream.number += 1;
    if (stream.number === stream.frames) {
      stream.writer.write(lastChunks());
      streams.delete(stream);
    } else if (stream.writer.waitingBytes > MAX_WAITING_BYTES) {
      streams.delete(stream);
      stream.socket.terminate();
    }
  }
}, TICK_MS);

function answer(body: object): string {
  const text = JSON.stringify(body);
  return `HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: ${text.length}\r\n\r\n${text}`;
}

process.stdout.write(`engine on port ${listener.port}\n`);
