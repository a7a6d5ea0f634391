/** An answer that comes by callbacks, as the `Response` that tests read at their pace. */

import type { AnswerSink, HttpRequest, Upstream } from "../../src/util/http/exchange.ts";

export interface TestRequest extends HttpRequest {
  signal: AbortSignal;
}

/** Rejects, and breaks its body off, as `fail` tells; with the signal's reason after an abort. */
export function ask(upstream: Upstream, { signal, ...request }: TestRequest): Promise<Response> {
  return new Promise((resolve, reject) => {
    let body: ReadableStreamDefaultController<Uint8Array> | null = null;
    const fail = (error: unknown) => {
      signal.removeEventListener("abort", abort);
      reject(error);
      body?.error(error);
      body = null;
    };
    const sink: AnswerSink = {
      head({ status, fields }) {
        const stream = new ReadableStream<Uint8Array>(
          {
            start: (controller) => {
              body = controller;
            },
            pull: () => exchange.resume(),
            cancel: () => {
              body = null;
              exchange.abort();
            },
          },
          { highWaterMark: 64 * 1024, size: (bytes) => bytes?.length ?? 0 },
        );
        const headers = fields.map(([name, value]): [string, string] => [name, value]);
        resolve(new Response(stream, { status, headers }));
      },
      data(bytes) {
        body?.enqueue(bytes);
        if ((body?.desiredSize ?? 0) <= 0) exchange.pause();
      },
      end() {
        body?.close();
        body = null;
      },
      fail,
    };
    const exchange = upstream(request, sink);
    const abort = () => {
      exchange.abort();
      fail(signal.reason);
    };
    signal.addEventListener("abort", abort);
    if (signal.aborted) abort();
  });
}
