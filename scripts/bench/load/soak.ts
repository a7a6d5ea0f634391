/** Load for long runs: requests, streams and streams that the client gives up, mixed. */

import { type Connection, openConnection } from "../http1.ts";
import type { SoakJob, SoakResult } from "../jobs.ts";
import { createFrameReader, plainRequest, streamRequest } from "../wire.ts";

const STREAM = { rate: 100, frames: 20 };
const SMALL_BYTES = 2048;
const LARGE_BYTES = 131_072;
/** Shares of all calls that are not given up. */
const STREAM_SHARE = 0.5;
const LARGE_SHARE = 0.05;
const PAUSE_MS = 20;
/** A call takes a fifth of a second; one that takes so long hangs. */
const CALL_LIMIT_MS = 30_000;

export async function loadSoak(job: SoakJob): Promise<SoakResult> {
  const tally: SoakResult = { requests: 0, streams: 0, aborts: 0, failures: 0 };
  const requests = {
    stream: streamRequest(STREAM, job.headers),
    small: plainRequest(SMALL_BYTES, job.headers),
    large: plainRequest(LARGE_BYTES, job.headers),
  };
  const deadline = performance.now() + job.durationMs;
  const client = async (_: unknown, n: number) => {
    const random = seeded(job.seed + n);
    const caller = createCaller(job.port);
    while (performance.now() < deadline) {
      if (random() < job.abortShare) {
        const framesKept = Math.floor(random() * STREAM.frames);
        await caller.abort(requests.stream, framesKept);
        tally.aborts += 1;
      } else if (random() < STREAM_SHARE) {
        const isWhole = await caller.call(requests.stream, STREAM.frames);
        tally[isWhole ? "streams" : "failures"] += 1;
      } else {
        const body = random() < LARGE_SHARE ? requests.large : requests.small;
        tally[(await caller.call(body, null)) ? "requests" : "failures"] += 1;
      }
      await Bun.sleep(PAUSE_MS);
    }
    caller.close();
  };
  await Promise.all(Array.from({ length: job.clients }, client));
  return tally;
}

interface Caller {
  /** Whether all came as it should; `frames` null: an answer in one piece. */
  call(request: Buffer, frames: number | null): Promise<boolean>;
  /** Closes the connection when so many frames are here. */
  abort(request: Buffer, frames: number): Promise<void>;
  close(): void;
}

/** One client with one connection, opened when needed and kept. */
function createCaller(port: number): Caller {
  let connection: Connection | null = null;
  let status = 0;
  let frames = 0;
  let isMarked = false;
  let settle: (isComplete: boolean) => void = () => {};
  let onFrame: () => void = () => {};
  // A new one for each call: what was given up may have ended inside a frame.
  const newReader = () =>
    createFrameReader((frame) => {
      if (frame === null) {
        isMarked = true;
      } else {
        frames += 1;
        onFrame();
      }
    });
  let reader = newReader();
  let isStream = false;
  const drop = () => {
    connection?.close();
    connection = null;
  };
  /** True: the answer came to its end. */
  const send = async (request: Buffer): Promise<boolean> => {
    const { promise, resolve } = Promise.withResolvers<boolean>();
    settle = resolve;
    status = frames = 0;
    isMarked = false;
    reader = newReader();
    connection ??= await openConnection(port, {
      status(code) {
        status = code;
      },
      body(bytes) {
        if (isStream) reader.push(bytes);
      },
      end: () => settle(true),
      closed() {
        connection = null;
        settle(false);
      },
    });
    connection.send(request);
    const timer = setTimeout(() => {
      drop();
      resolve(false);
    }, CALL_LIMIT_MS);
    return promise.finally(() => clearTimeout(timer));
  };
  return {
    async call(request, wanted) {
      isStream = wanted !== null;
      onFrame = () => {};
      const isComplete = await send(request);
      return isComplete && status === 200 && (wanted === null || (isMarked && frames === wanted));
    },
    async abort(request, limit) {
      isStream = true;
      onFrame = () => {
        if (frames < limit) return;
        drop();
        settle(false);
      };
      await send(request);
    },
    close: drop,
  };
}

/** Numbers from 0 to 1 that are the same in every run (mulberry32). */
function seeded(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}
