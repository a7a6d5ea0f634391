/** The engine of the lane benchmark: streams at a pace, and answers as large as is asked for. */

import { createMessageReader, createWriter, type MessageReader, type Writer } from "../http1.ts";
import { ANSWER_BYTES_HEADER } from "./options.ts";
import { frameChunk, lastChunks, MODEL, readWish, sharedClockUs } from "../wire.ts";

/** How often streams are looked after; events are spread evenly over their period. */
const TICK_MS = 2;
/** Of a body, to find out what is wanted. */
const BODY_HEAD_BYTES = 512;
/** A stream whose client does not read is ended. */
const MAX_WAITING_BYTES = 1024 * 1024;
const PIECE = "a".repeat(64 * 1024);
const LARGE_START = '{"data":"';
const LARGE_END = '"}';

interface Stream {
  peer: Bun.Socket<Peer>;
  number: number;
  frames: number;
  dueMs: number;
  periodMs: number;
}

interface Peer {
  reader: MessageReader;
  writer: Writer;
  stream: Stream | null;
  /** Of a large answer, what has not been written yet. */
  leftBytes: number;
}

const STREAM_HEAD =
  "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n";
const NOT_FOUND = "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n";
const ANSWER = answer({ id: "chatcmpl-bench", object: "chat.completion", model: MODEL });
// A vLLM, for whoever asks: ready by /health, one model.
const MODELS = answer({
  object: "list",
  data: [{ id: MODEL, object: "model", created: 0, owned_by: "vllm", max_model_len: 32_768 }],
});
const HEALTHY = answer({});
const WANTED_BYTES = new RegExp(`^${ANSWER_BYTES_HEADER}: *(\\d+)`, "im");

const streams = new Set<Stream>();

const listener = Bun.listen<Peer>({
  hostname: "127.0.0.1",
  port: 0,
  socket: {
    open(socket) {
      socket.setNoDelay(true);
      const writer = createWriter(socket);
      socket.data = { writer, stream: null, leftBytes: 0, reader: readerOf(socket, writer) };
    },
    data: (socket, data) => socket.data.reader.push(data),
    drain(socket) {
      socket.data.writer.drain();
      pump(socket.data);
    },
    end: forget,
    close: forget,
    error: forget,
  },
});

function readerOf(socket: Bun.Socket<Peer>, writer: Writer): MessageReader {
  let head = "";
  let body = "";
  return createMessageReader({
    head(text) {
      head = text;
      body = "";
    },
    body(bytes) {
      if (body.length < BODY_HEAD_BYTES) body += bytes.toString("latin1", 0, BODY_HEAD_BYTES);
    },
    end() {
      if (head.startsWith("GET /v1/models ")) return writer.write(MODELS);
      if (!head.startsWith("POST ")) {
        return writer.write(head.startsWith("GET /health ") ? HEALTHY : NOT_FOUND);
      }
      const wish = readWish(body);
      const wantedBytes = Number(WANTED_BYTES.exec(head)?.[1] ?? 0);
      if (wish !== null) {
        writer.write(STREAM_HEAD);
        const stream = {
          peer: socket,
          number: 0,
          frames: wish.frames,
          dueMs: performance.now(),
          periodMs: 1000 / wish.rate,
        };
        streams.add(stream);
        socket.data.stream = stream;
      } else if (wantedBytes > 0) {
        const frameBytes = LARGE_START.length + LARGE_END.length;
        writer.write(
          `HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: ${wantedBytes + frameBytes}\r\n\r\n${LARGE_START}`,
        );
        socket.data.leftBytes = wantedBytes;
        pump(socket.data);
      } else {
        writer.write(ANSWER);
      }
    },
  });
}

/** Writes of a large answer what the socket takes, and one piece more. */
function pump(peer: Peer): void {
  while (peer.leftBytes > 0 && peer.writer.waitingBytes === 0) {
    const count = Math.min(PIECE.length, peer.leftBytes);
    peer.leftBytes -= count;
    peer.writer.write(count === PIECE.length ? PIECE : PIECE.slice(0, count));
    if (peer.leftBytes === 0) peer.writer.write(LARGE_END);
  }
}

function forget(socket: Bun.Socket<Peer>): void {
  const { stream } = socket.data;
  if (stream !== null) streams.delete(stream);
  socket.data.leftBytes = 0;
  socket.end();
}

setInterval(() => {
  const now = performance.now();
  const timeUs = sharedClockUs();
  for (const stream of streams) {
    if (stream.dueMs > now) continue;
    const { writer } = stream.peer.data;
    stream.dueMs += stream.periodMs;
    writer.write(frameChunk(stream.number, timeUs));
    stream.number += 1;
    if (stream.number === stream.frames) {
      writer.write(lastChunks());
      streams.delete(stream);
    } else if (writer.waitingBytes > MAX_WAITING_BYTES) {
      streams.delete(stream);
      stream.peer.terminate();
    }
  }
}, TICK_MS);

function answer(body: object): string {
  const text = JSON.stringify(body);
  return `HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: ${text.length}\r\n\r\n${text}`;
}

process.stdout.write(`engine on port ${listener.port}\n`);
