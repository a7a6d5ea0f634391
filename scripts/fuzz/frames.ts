/** Fuzzes what worker and head tell one another: frames of lanes, messages of sessions. */

import { readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { decodeFrame, encodeFrame, MAX_LANE_FRAME_BYTES } from "../../src/protocol/lane-frames.ts";
import { loadService } from "../../src/protocol/schema.ts";
import { mayThrow, must, mustEqual, pure } from "./fuzzer.ts";
import { damaged, damagedBytes } from "./random.ts";

const FOLDER = resolve(import.meta.dir, "../../test/fixtures/protocol-2");
const FILES = readdirSync(FOLDER).filter((name) => name.endsWith(".hex"));
const CAPTURES = FILES.map((name) => ({
  name,
  bytes: Buffer.from(readFileSync(join(FOLDER, name), "utf8").replaceAll(/\s/g, ""), "hex"),
}));
const LANES = CAPTURES.filter(({ name }) => name.startsWith("lane-"));
const SESSIONS = CAPTURES.filter(({ name }) => !name.startsWith("lane-"));

export const laneFrames = pure(
  "lane-frames",
  "a lane's message is a frame that can be sent again as it is, or none",
  (random) => {
    const { name, bytes } = random.pick(LANES);
    // Six bytes of each frame, four more where a head has its length.
    const from = name.includes("error") ? 6 : 10;
    const isText = bytes.length > from && random.chance(0.6);
    const sent = isText
      ? withText(bytes.subarray(0, from), damaged(random, bytes.toString("utf8", from)))
      : damagedBytes(random, bytes);
    const frame = decodeFrame(sent);
    if (frame === null) return;
    must(sent.length <= MAX_LANE_FRAME_BYTES, "a frame too long", sent);
    const again = encodeFrame(frame);
    mustEqual(encodeFrame(decodeFrame(again) ?? frame), again, {
      what: "a frame that was sent again",
      input: sent,
    });
    must(decodeFrame(again) !== null, "what is sent again is no frame", sent);
    if (frame.kind === "request") {
      const { path, fields } = frame.head;
      must(!/[\r\n ]/.test(path), "a path that ends the request's line", sent);
      must(!/(^|\n)\r\n|[^\r]\n|\r[^\n]/.test(fields), "fields that end the head", sent);
    }
    if (frame.kind !== "answer") return;
    // The platform refuses with an error what is no header.
    const fields = frame.head.fields.map(([field, value]): [string, string] => [field, value]);
    must([...new Headers(fields)].length <= fields.length, "more fields than told", sent);
  },
);

/** The text's length stands before it, where it has one. */
function withText(prefix: Buffer, text: string): Buffer {
  const bytes = Buffer.from(text);
  const start = Buffer.from(prefix);
  if (start.length === 10) start.writeUInt32LE(bytes.length, 6);
  return Buffer.concat([start, bytes]);
}

const JOIN = loadService()["Join"];

export const sessionMessages = pure(
  "session-messages",
  "a session's message is read or refused, and what was read can be written",
  (random) => {
    if (!JOIN) throw new Error("the contract has no Join");
    const { name, bytes } = random.pick(SESSIONS);
    const isUp = name.startsWith("up-");
    const [read, write] = isUp
      ? [JOIN.requestDeserialize, JOIN.requestSerialize]
      : [JOIN.responseDeserialize, JOIN.responseSerialize];
    const sent = damagedBytes(random, bytes);
    const message = mayThrow<unknown>(
      () => read(sent),
      (error) => error instanceof Error,
    );
    if (message === null) return;
    const again: unknown = read(Buffer.from(write(message as never)));
    // What has no number in JSON is not equal to itself, and 64 bits do not fit.
    mustEqual(JSON.stringify(again), JSON.stringify(message), {
      what: "a message written again",
      input: sent,
    });
  },
);
