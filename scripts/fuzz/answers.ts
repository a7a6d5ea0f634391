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
    "5 ;ext=1\r\n",
    " folded\r\n",
    "x : y\r\n",
  ],
];

const MAX_CUTS = 2000;

export const answers = pure(
  "answers",
  "a server's answer is read the same in any split, or refused as no HTTP",
  (random) => {
    const bytes = answerBytes(random);
    const method = random.pick(["GET", "POST", "HEAD"]);
    const whole = readWhole([bytes], method);
    const about = { what: `an answer to ${method} in pieces`, input: bytes };
    mustEqual(readWhole(inPieces(random, bytes), method), whole, about);
    // In two, wherever that is.
    if (bytes.length > MAX_CUTS || random.chance(0.9)) return;
    for (let at = 1; at < bytes.length; at += 1) {
      mustEqual(readWhole([bytes.subarray(0, at), bytes.subarray(at)], method), whole, about);
    }
  },
);

/** An answer, mostly sound. */
export function answerBytes(random: Random): Buffer {
  const { bytes } = soundAnswer(random, random.pick(["GET", "GET", "HEAD"]));
  if (random.chance(0.4)) return bytes;
  return random.chance(0.5)
    ? Buffer.from(damaged(random, bytes.toString("latin1"), WORDS), "latin1")
    : damagedBytes(random, bytes);
}

export interface SoundAnswer {
  bytes: Buffer;
  status: number;
  /** As they are to be read, without those of the framing. */
  fields: [string, string][];
  body: Buffer;
  /** The server is to close behind it. */
  closes: boolean;
}

/** An answer as servers may give it (RFC 9112), in one of its many shapes. */
export function soundAnswer(
  random: Random,
  method: string,
  own: readonly [string, string][] = [],
): SoundAnswer {
  const status = random.pick([200, 200, 200, 201, 204, 304, 404, 503]);
  const isBodiless = method === "HEAD" || status === 204 || status === 304;
  const body = Buffer.from(oddText(random, random.pick([0, 3, 30, 300])));
  const framing = random.pick(["length", "chunks", "close"] as const);
  const minor = framing === "chunks" ? 1 : random.below(2);
  const fields: [string, string][] = [...own, ...random.several(5, () => someField(random))];
  const lines = fields.map(([name, value]) => fieldLine(random, name, value));
  if (framing === "length") {
    lines.push(fieldLine(random, "content-length", `${body.length}`));
    if (random.chance(0.1)) lines.push(`content-length: ${body.length}\r\n`);
  }
  if (framing === "chunks") lines.push(fieldLine(random, "transfer-encoding", "chunked"));
  const isKept = framing !== "close" || isBodiless;
  const option = minor === 0 ? "keep-alive" : "close";
  const hasOption = random.chance(0.3);
  if (hasOption) lines.push(fieldLine(random, "connection", option));
  const announced = random.several(
    2,
    () => `HTTP/1.1 ${random.pick([100, 102, 103])} A\r\nlink: <x>\r\n\r\n`,
  );
  const start = `HTTP/1.${minor} ${status}${random.pick(["", " ", " OK", " Not \xe9"])}\r\n`;
  const head = `${random.chance(0.2) ? announced.join("") : ""}${start}${lines.join("")}\r\n`;
  const sent = framing === "chunks" ? chunked(random, body) : body;
  return {
    bytes: Buffer.concat([Buffer.from(head, "latin1"), isBodiless ? Buffer.alloc(0) : sent]),
    status,
    fields,
    body: isBodiless ? Buffer.alloc(0) : body,
    closes: !isKept || hasOption === (minor === 1),
  };
}

function someField(random: Random): [string, string] {
  const name = random.pick([
    "content-type",
    "x-a",
    "x-a",
    "set-cookie",
    "server",
    "x_!#$%&'*+.^`|~",
  ]);
  return [
    name,
    random.pick(["", "a", "text/event-stream; charset=utf-8", "a, b", "\xe9\xff", 'q="x\ty"']),
  ];
}

function fieldLine(random: Random, name: string, value: string): string {
  const spelled = random.chance(0.5) ? name : name.replace(/(^|-)[a-z]/g, (at) => at.toUpperCase());
  const [before, after] = [random.pick([" ", "", "\t ", "  "]), random.pick(["", "", " ", "\t"])];
  return `${spelled}:${before}${value}${after}\r\n`;
}

function chunked(random: Random, body: Buffer): Buffer {
  const parts: Buffer[] = [];
  for (const piece of inPieces(random, body)) {
    const size = random.chance(0.3)
      ? piece.length.toString(16).toUpperCase()
      : `0${piece.length.toString(16)}`;
    const extension = random.pick(["", "", "", ";a", ';a="b c"']);
    parts.push(Buffer.from(`${size}${extension}\r\n`), Buffer.from(piece), Buffer.from("\r\n"));
  }
  const trailer = random.pick(["", "", "x-t: 1\r\n", "x-t: 1\r\nx-u: 2\r\n"]);
  return Buffer.concat([...parts, Buffer.from(`0\r\n${trailer}\r\n`)]);
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
