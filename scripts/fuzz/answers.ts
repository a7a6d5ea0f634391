/** Fuzzes what reads an HTTP server's answer. */

import { AnswerReader } from "../../src/util/http/answer.ts";
import { systemCode } from "../../src/protocol/errors.ts";
import { mustEqual, pure } from "./fuzzer.ts";
import { damaged, damagedBytes, inPieces, oddText, type Random } from "./random.ts";

const WORDS = [
  ...[
    "Content-Length: 5\r\n",
    "Content-Length: -1\r\n",
    "Content-Length: 99999999999999999999\r\n",
  ],
  ...[
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: gzip, chunked\r\n",
    "HTTP/1.1 100 Continue\r\n\r\n",
  ],
  ...[
    "HTTP/1.1 101 Switching Protocols\r\n\r\n",
    "HTTP/1.0 200 OK\r\n",
    "Connection: close\r\n",
    "\r\n\r\n",
  ],
  ...[
    "0\r\n\r\n",
    "ffffffffffff\r\n",
    "fffffffffffff\r\n",
    "5;ext=1\r\n",
    " folded\r\n",
    "x : y\r\n",
  ],
];

export const answers = pure(
  "answers",
  "a server's answer is read the same in any split, or refused as no HTTP",
  (random) => {
    const bytes = answerBytes(random);
    const method = random.pick(["GET", "POST", "HEAD"]);
    const whole = readWhole([bytes], method);
    const pieces = inPieces(random, bytes);
    mustEqual(readWhole(pieces, method), whole, {
      what: `an answer to ${method} in pieces`,
      input: bytes,
    });
  },
);

/** An answer, mostly sound. */
export function answerBytes(random: Random): Buffer {
  const body = oddText(random, 30);
  const status = random.pick([200, 200, 200, 204, 304, 404, 503]);
  const head = [`HTTP/1.${random.below(2)} ${status} OK`, "Content-Type: application/json"];
  let framed = body;
  const framing = random.below(3);
  if (framing === 0) head.push(`Content-Length: ${Buffer.byteLength(body)}`);
  if (framing === 1) {
    head.push("Transfer-Encoding: chunked");
    const chunks = [...body].map((char) => Buffer.from(char).toString("latin1"));
    framed = `${chunks.map((chunk) => `${chunk.length.toString(16)}\r\n${chunk}\r\n`).join("")}0\r\n\r\n`;
  }
  const bytes = Buffer.concat([
    Buffer.from(`${head.join("\r\n")}\r\n\r\n`),
    Buffer.from(framed, framing === 1 ? "latin1" : "utf8"),
  ]);
  if (random.chance(0.4)) return bytes;
  return random.chance(0.5)
    ? Buffer.from(damaged(random, bytes.toString("latin1"), WORDS))
    : damagedBytes(random, bytes);
}

/** All that a reader tells but whether the connection may be used again: that hangs on the split. */
function readWhole(pieces: readonly Uint8Array[], method: string): unknown {
  const told: { heads: unknown[]; body: string; end: string } = {
    heads: [],
    body: "",
    end: "none",
  };
  let isTold = false;
  const reader = new AnswerReader(method, {
    onHead: (head) => void told.heads.push(head),
    onBody: (bytes) => void (told.body += Buffer.from(bytes).toString("latin1")),
    onEnd() {
      if (isTold) throw new Error("an answer ended twice");
      isTold = true;
      told.end = "whole";
    },
  });
  try {
    for (const piece of pieces) reader.push(Buffer.from(piece));
    reader.finish();
  } catch (error) {
    const code = systemCode(error);
    if (code !== "EPROTO" && code !== "ECONNRESET") throw error;
    told.end = code;
  }
  return told;
}
