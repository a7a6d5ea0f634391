import { expect, test } from "bun:test";
import { readChatStream } from "../../scripts/chat-stream.ts";

const TEXT =
  'data: {"choices":[{"delta":{"content":"hel"}}]}\n\ndata: {"choices":[{"delta":{"content":"lö"}}]}\n\n';
const DONE = "data: [DONE]\n\n";

async function read(body: string, size = body.length) {
  const bytes = new TextEncoder().encode(body);
  const texts: string[] = [];
  async function* pieces() {
    for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
  }
  const wrong = await readChatStream(pieces(), (text) => void texts.push(text));
  return { wrong, text: texts.join("") };
}

test.each([1, 3, 7, 1000])("the text comes out whole from pieces of %p bytes", async (size) => {
  const role = 'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n';
  const usage = 'data: {"choices":[],"usage":{}}\n\n';
  expect(await read(`: comment\n\n${role}${TEXT}${usage}${DONE}`, size)).toEqual({
    wrong: null,
    text: "hellö",
  });
});

test("what is no proper end is told", async () => {
  expect((await read(TEXT)).wrong).toBe("it ended early");
  expect((await read(DONE)).wrong).toBe("it has no text");
  expect((await read("")).wrong).toBe("it ended early");
  expect((await read(`${TEXT}data: {"error":{"message":"no"}}\n\n`)).wrong).toContain('"no"');
  expect((await read('{"error":{"message":"nope"}}')).wrong).toContain("nope");
});
