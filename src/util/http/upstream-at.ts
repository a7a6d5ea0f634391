/** Lets those who take an answer as it comes use the client that promises one. */

import type { HttpClient } from "./client.ts";
import type { Field, Upstream } from "./exchange.ts";

export function upstreamAt(client: HttpClient, baseUrl: string): Upstream {
  return ({ method, path, fields, body, length, fresh }, sink) => {
    const over = new AbortController();
    let paused: PromiseWithResolvers<void> | null = null;
    const headers = fields
      .split("\r\n")
      .filter((line) => line !== "")
      .map((line): [string, string] => {
        const at = line.indexOf(":");
        return [line.slice(0, at), line.slice(at + 1).trim()];
      });
    const run = async () => {
      const url = new URL(`${baseUrl}${path}`);
      const { signal } = over;
      const answer = await client.send({ url, method, headers, body, length, fresh, signal });
      if (signal.aborted) return;
      const own = answer.headers.map(([name, value]): Field => [name.toLowerCase(), value]);
      sink.head({ status: answer.status, fields: own });
      for (;;) {
        await paused?.promise;
        const count = await answer.body.ready();
        if (signal.aborted) return;
        if (count === 0) return sink.end();
        sink.data(answer.body.take(count));
      }
    };
    queueMicrotask(() => void run().catch((error) => over.signal.aborted || sink.fail(error)));
    return {
      pause() {
        paused ??= Promise.withResolvers();
      },
      resume() {
        paused?.resolve();
        paused = null;
      },
      abort() {
        over.abort();
        paused?.resolve();
      },
    };
  };
}
