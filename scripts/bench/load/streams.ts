/** Load of many streams at a time, each frame of which is looked at. */

import { type Connection, openConnection } from "../http1.ts";
import type { StreamsJob, StreamsResult } from "../jobs.ts";
import { cpuMeter, residentBytes } from "../proc.ts";
import { histogram } from "../stats.ts";
import { createFrameReader, sharedClockUs, streamRequest } from "../wire.ts";

/** Connections that are opened at a time: below what a listening port lets wait. */
const OPEN_AT_ONCE = 64;
/** The streams go on after the window, so that none ends in it. */
const AFTER_MS = 700;
/** What has not ended so long after its time counts as broken. */
const GRACE_MS = 10_000;

export async function loadStreams(job: StreamsJob): Promise<StreamsResult> {
  const frames = Math.ceil((job.rate * (job.rampMs + job.windowMs + AFTER_MS)) / 1000);
  const request = streamRequest({ rate: job.rate, frames }, job.headers);
  const delays = histogram();
  let inWindow = false;
  const tally = { frames: 0, lost: 0, wrong: 0, broken: 0 };
  const onFrame = (sentUs: number) => {
    tally.frames += 1;
    if (inWindow) delays.add(sharedClockUs() - sentUs);
  };

  const clients: StreamClient[] = [];
  for (let n = 0; n < job.streams; n += OPEN_AT_ONCE) {
    const some = Math.min(OPEN_AT_ONCE, job.streams - n);
    const open = () => openStream({ port: job.port, request, frames, onFrame });
    clients.push(...(await Promise.all(Array.from({ length: some }, open))));
  }
  const started = performance.now();
  for (let sent = 0; sent < clients.length;) {
    const passed = (performance.now() - started) / job.rampMs;
    const due = Math.min(clients.length, Math.ceil(passed * clients.length));
    for (; sent < due; sent += 1) clients[sent]?.start();
    await Bun.sleep(2);
  }

  const { watchPid } = job;
  const meter = watchPid === null ? null : cpuMeter(watchPid);
  const windowStart = performance.now();
  inWindow = true;
  await Bun.sleep(job.windowMs);
  inWindow = false;
  const windowMs = performance.now() - windowStart;
  const used = meter?.() ?? null;
  const resident = watchPid === null ? null : residentBytes(watchPid);

  const timer = setTimeout(() => {
    for (const client of clients) client.giveUp();
  }, AFTER_MS + GRACE_MS);
  for (const end of await Promise.all(clients.map((client) => client.ended))) {
    tally.lost += end.lost;
    tally.wrong += end.wrong;
    tally.broken += end.isWhole ? 0 : 1;
  }
  clearTimeout(timer);
  const windowEvents = delays.count;
  return {
    ...tally,
    windowMs,
    windowEvents,
    cpuMs: used?.ms ?? null,
    threadsMs: used?.threads ?? null,
    residentBytes: resident,
    delays: delays.entries(),
  };
}

interface StreamEnd {
  lost: number;
  wrong: number;
  isWhole: boolean;
}

interface StreamClient {
  start(): void;
  giveUp(): void;
  ended: Promise<StreamEnd>;
}

interface StreamOptions {
  port: number;
  request: Buffer;
  frames: number;
  onFrame: (sentUs: number) => void;
}

async function openStream(options: StreamOptions): Promise<StreamClient> {
  const ended = Promise.withResolvers<StreamEnd>();
  let expected = 0;
  let lost = 0;
  let wrong = 0;
  let isMarked = false;
  let status = 0;
  const reader = createFrameReader((frame) => {
    if (frame === null) {
      isMarked = true;
    } else if (frame.number < expected) {
      wrong += 1;
    } else {
      lost += frame.number - expected;
      expected = frame.number + 1;
      options.onFrame(frame.sentUs);
    }
  });
  let connection: Connection | null = null;
  const finish = (isWhole: boolean) => {
    connection?.close();
    ended.resolve({
      lost: lost + options.frames - expected,
      wrong: wrong + reader.strange,
      isWhole: isWhole && isMarked && status === 200,
    });
  };
  connection = await openConnection(options.port, {
    status(code) {
      status = code;
    },
    body: (bytes) => reader.push(bytes),
    end: () => finish(true),
    closed: () => finish(false),
  });
  return {
    start: () => connection.send(options.request),
    giveUp: () => finish(false),
    ended: ended.promise,
  };
}
