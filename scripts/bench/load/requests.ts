/** Load of requests with answers in one piece: each client sends its next one after the answer. */

import { type Connection, openConnection } from "../http1.ts";
import type { RequestsJob, RequestsResult } from "../jobs.ts";
import { cpuMeter } from "../proc.ts";
import { type Histogram, histogram } from "../stats.ts";
import { plainRequest } from "../wire.ts";

/** What is not answered so long after the end counts as failed. */
const GRACE_MS = 10_000;
/** A target that fails this often is not worth more. */
const MAX_ERRORS = 1000;

interface Tally {
  latencies: Histogram;
  maxRequests: number;
  errors: number;
}

export async function loadRequests(job: RequestsJob): Promise<RequestsResult> {
  const request = plainRequest(job.bodyBytes, job.headers);
  const { maxRequests = Number.POSITIVE_INFINITY } = job;
  const tally: Tally = { latencies: histogram(), maxRequests, errors: 0 };
  const clients = await Promise.all(
    Array.from({ length: job.concurrency }, () => openClient(job.port, request, tally)),
  );
  const meter = job.watchPid === null ? null : cpuMeter(job.watchPid);
  const started = performance.now();
  const timer = setTimeout(() => {
    for (const client of clients) client.giveUp();
  }, job.durationMs + GRACE_MS);
  await Promise.all(clients.map((client) => client.run(started + job.durationMs)));
  clearTimeout(timer);
  const elapsedMs = performance.now() - started;
  const used = meter?.() ?? null;
  return {
    requests: tally.latencies.count,
    errors: tally.errors,
    elapsedMs,
    cpuMs: used?.ms ?? null,
    threadsMs: used?.threads ?? null,
    latencies: tally.latencies.entries(),
  };
}

interface Client {
  run(untilMs: number): Promise<void>;
  giveUp(): void;
}

async function openClient(port: number, request: Buffer, tally: Tally): Promise<Client> {
  const done = Promise.withResolvers<void>();
  let deadline = 0;
  let sentAt = 0;
  let isGood = false;
  let connection: Connection;

  const next = () => {
    sentAt = performance.now();
    const isMore = sentAt < deadline && tally.latencies.count < tally.maxRequests;
    if (isMore && tally.errors < MAX_ERRORS) return connection.send(request);
    connection.close();
    done.resolve();
  };
  const events = {
    status(code: number) {
      isGood = code === 200;
    },
    body() {},
    end() {
      if (isGood) tally.latencies.add((performance.now() - sentAt) * 1000);
      else tally.errors += 1;
      next();
    },
    async closed() {
      tally.errors += 1;
      try {
        connection = await openConnection(port, events);
        next();
      } catch (error) {
        done.reject(error);
      }
    },
  };
  connection = await openConnection(port, events);
  return {
    run(untilMs) {
      deadline = untilMs;
      next();
      return done.promise;
    },
    giveUp() {
      tally.errors += 1;
      connection.close();
      done.resolve();
    },
  };
}
