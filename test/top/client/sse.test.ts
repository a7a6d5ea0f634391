import { expect, test } from "bun:test";
import { readEvents } from "../../../src/top/client/sse.ts";

function body(...chunks: string[]): ReadableStream<Uint8Array> {
  return new ReadableStream({
    start(controller) {
      for (const chunk of chunks) controller.enqueue(Buffer.from(chunk));
      controller.close();
    },
  });
}

test.each(["\n", "\r\n"])("events with lines that end in %j are read in any split", async (end) => {
  const text = ["event: snapshot", "data: 1", "", ": alive", "", "data: é", "data: 2", "", ""].join(
    end,
  );
  const wanted = [
    { event: "snapshot", data: "1" },
    { event: "message", data: "é\n2" },
  ];
  expect(await Array.fromAsync(readEvents(body(text)))).toEqual(wanted);
  expect(await Array.fromAsync(readEvents(body(...text)))).toEqual(wanted);
});

test("an event without an end is not read for ever", async () => {
  const endless = body(..."abc".split("").map((char) => char.repeat(6 * 1024 * 1024)));
  const failed = await Array.fromAsync(readEvents(endless)).then(() => null, String);
  expect(failed).toContain("not a stream of a head");
});
