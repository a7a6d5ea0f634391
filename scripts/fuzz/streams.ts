/** Fuzzes what reads streams: however an answer is cut on its way, the same is seen in it. */

import { endsFrame, frameData, lastFrameEnd, splitFrames } from "../../src/proxy/record/frames.ts";
import { createStreamWatch, type WatchOptions } from "../../src/proxy/record/stream-watch.ts";
import { readEvents, type ServerEvent } from "../../src/top/client/sse.ts";
import { foldLines, splitLines } from "../../src/engine/log/line-splitter.ts";
import { must, mustEqual, pure } from "./fuzzer.ts";
import { damagedBytes, inPieces, jsonText, oddText, type Random } from "./random.ts";

const USAGE = '{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":5}}';
const DATA = [
  '{"choices":[{"index":0,"delta":{"content":"a"}}]}',
  '{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}',
  USAGE,
  '{"error":{"message":"no","code":500}}',
  '{"done":true,"eval_count":4,"prompt_eval_count":2}',
  '{"type":"message_stop"}',
  "[DONE]",
  "",
];

export const streams = pure(
  "streams",
  "a stream of events or lines says the same in any split, and no byte of it is lost",
  (random) => {
    const format = random.pick(["sse", "ndjson"] as const);
    const end = random.pick(["\n", "\n", "\r\n", "\r"]);
    const text = random
      .several(8, () => (format === "sse" ? event(random, end) : line(random)))
      .join("");
    const sent = random.chance(0.7) ? Buffer.from(text) : damagedBytes(random, Buffer.from(text));
    // Of the smallest pieces so much is kept for sure.
    const bytes = sent.subarray(0, 4096);
    const options: WatchOptions = {
      format,
      dropUsage: format === "sse" && random.chance(0.4),
      wholeFrames: format === "sse" && random.chance(0.5),
      tailBytes: 64 * 1024,
    };
    const whole = watched([bytes], options);
    const pieces = inPieces(random, bytes);
    const cut = watched(pieces, options);
    const input = {
      options,
      bytes: bytes.toString("latin1"),
      pieces: pieces.map(({ length }) => length),
    };
    mustEqual(cut.facts, whole.facts, { what: "facts of a stream in pieces", input });
    must(cut.isComplete === whole.isComplete, "whether a stream in pieces is complete", input);
    must(cut.frames === whole.frames, "the frames of a stream in pieces", input);
    if (!options.dropUsage) {
      mustEqual(cut.passed, bytes.toString("latin1"), { what: "what has passed", input });
    }
    checkFrames(bytes, format);
  },
);

function event(random: Random, end: string): string {
  const data = random.chance(0.7)
    ? random.pick(DATA)
    : jsonText(random, 2).replaceAll(/[\r\n]/g, " ");
  const lines = [random.chance(0.5) ? `data: ${data}` : `data:${data}`];
  if (random.chance(0.2))
    lines.unshift(random.pick([": keep-alive", "event: x", "id", `data:${oddText(random, 1)}`]));
  return lines.join(end) + end + end;
}

function line(random: Random): string {
  return `${random.chance(0.7) ? random.pick(DATA) : oddText(random)}\n`;
}

function watched(pieces: readonly Uint8Array[], options: WatchOptions) {
  const watch = createStreamWatch(options);
  const passed = pieces.map((piece) => {
    const out = watch.push(piece);
    if (options.wholeFrames && out !== null && watch.isBetweenFrames) {
      must(endsFrame(out, "sse"), "a part of a frame went on", Buffer.concat(pieces));
    }
    return out;
  });
  passed.push(watch.flush());
  return {
    passed: Buffer.concat(passed.filter((part) => part !== null)).toString("latin1"),
    facts: watch.facts(),
    isComplete: watch.isComplete(),
    frames: watch.frames(),
  };
}

function checkFrames(bytes: Buffer, format: "sse" | "ndjson"): void {
  const end = lastFrameEnd(bytes, format);
  must(end >= 0 && end <= bytes.length, "where the last frame ends", bytes);
  const frames = splitFrames(bytes, format);
  must(Buffer.concat(frames).equals(bytes), "frames that are not the stream", bytes);
  must(end === 0 || endsFrame(bytes.subarray(0, end), format), "an end that is none", bytes);
  // Comments and empty frames tell nothing.
  must(frameData(bytes.toString(), format).length <= frames.length, "more data than frames", bytes);
}

export const events = pure(
  "events",
  "a view's events are read the same in any split",
  async (random) => {
    const end = random.pick(["\n", "\n", "\r\n"]);
    const text = random
      .several(6, () => {
        const lines = [
          `event: ${random.pick(["snapshot", "delta", ""])}`,
          `data: ${oddText(random).replaceAll(/[\r\n]/g, "")}`,
        ];
        return lines.join(end) + end + end;
      })
      .join("");
    const bytes = Buffer.from(text);
    const [whole, cut] = [await read([bytes]), await read(inPieces(random, bytes))];
    mustEqual(cut, whole, { what: "events in pieces", input: bytes });
  },
);

async function read(pieces: readonly Uint8Array[]): Promise<ServerEvent[]> {
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      for (const piece of pieces) controller.enqueue(piece);
      controller.close();
    },
  });
  return await Array.fromAsync(readEvents(body));
}

export const lines = pure(
  "lines",
  "an engine's output is cut into the same lines in any split, none longer than allowed",
  (random) => {
    const text = random
      .several(12, () => oddText(random) + random.pick(["\n", "\r", "\r\n", ""]))
      .join("");
    const bytes = damagedBytes(random, Buffer.from(text));
    const maxBytes = random.pick([1, 8, 40, 4096]);
    for (const make of [splitLines, foldLines]) {
      const through = (pieces: readonly Uint8Array[]) => {
        const splitter = make(maxBytes);
        return [...pieces.flatMap((piece) => splitter.push(piece)), ...splitter.flush()];
      };
      const whole = through([bytes]);
      mustEqual(through(inPieces(random, bytes)), whole, {
        what: `${make.name} in pieces`,
        input: bytes,
      });
      // One character stands for what was dropped, and each bad byte may become three.
      const longest = 3 * maxBytes + 3;
      must(
        whole.every((one) => Buffer.byteLength(one) <= longest),
        `a line beyond ${longest} bytes`,
        bytes,
      );
    }
  },
);
