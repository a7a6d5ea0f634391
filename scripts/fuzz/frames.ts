/** Fuzzes what worker and head tell one another: frames of lanes, messages of sessions. */

import { readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { decodeFrame, encodeFrame, MAX_LANE_FRAME_BYTES } from "../../src/protocol/lane-frames.ts";
import { loadService } from "../../src/protocol/schema.ts";
import { mayThrow, must, mustEqual, pure } from "./fuzzer.ts";
import { damaged, damagedBytes } from "./random.ts";

const FOLDER = resolve(import.meta.dir, "../../test/fixtures/protocol-1");
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
    const { bytes } = random.pick(LANES);
    const isText = bytes.length > 5 && random.chance(0.6);
    const sent = isText
      ? Buffer.concat([
          bytes.subarray(0, 5),
          Buffer.from(damaged(random, bytes.toString("utf8", 5))),
        ])
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
    if (frame.kind !== "request" && frame.kind !== "response") return;
    // The platform refuses with an error what is no header.
    const headers = new Headers(frame.head.headers);
    must([...headers].length <= frame.head.headers.length, "more headers than told", sent);
  },
);

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
