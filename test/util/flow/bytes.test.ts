import { expect, test } from "bun:test";
import { readUpTo } from "../../../src/util/flow/bytes.ts";

const encoder = new TextEncoder();

test.each([
  ["nothing", [], "", true],
  ["less", ["ab", "c"], "abc", true],
  ["just as much", ["ab", "cd"], "abcd", true],
  ["more", ["abc", "def", "ghi"], "abcd", false],
])("%s than may be read of a stream", async (_, parts, text, isWhole) => {
  const stream = new Response(encoder.encode(parts.join(""))).body;
  const read = await readUpTo(parts.length === 0 ? null : stream, 4);
  expect({ text: read.bytes.toString(), isWhole: read.isWhole }).toEqual({ text, isWhole });
});

test("what is not read of a stream is cancelled", async () => {
  let sent = 0;
  let cancelled = false;
  const stream = new ReadableStream<Uint8Array>(
    {
      pull(controller) {
        sent += 1;
        controller.enqueue(encoder.encode("abc"));
      },
      cancel() {
        cancelled = true;
      },
    },
    { highWaterMark: 0 },
  );
  expect((await readUpTo(stream, 4)).isWhole).toBe(false);
  expect({ sent, cancelled }).toEqual({ sent: 2, cancelled: true });
});
