/** Lets those who ask for a promise of a `Response` use what tells an answer as it comes. */

import type { Upstream as FetchUpstream, UpstreamRequest } from "../../proxy/request/upstream.ts";
import type { AnswerHead, AnswerSink, Exchange, Upstream } from "../../util/http/exchange.ts";

export function asFetch(upstream: Upstream): FetchUpstream {
  return (request) =>
    new Promise((resolve, reject) => {
      const { signal, path, method, body, length = null, fresh = false } = request;
      if (signal.aborted) return reject(signal.reason);
      const answer = openAnswer(resolve, reject, () => {
        signal.removeEventListener("abort", abort);
      });
      const fields = fieldsOf(request);
      const exchange = upstream(
        { method, path, host: null, fields, body, length, fresh },
        answer.sink,
      );
      const abort = () => {
        exchange.abort();
        answer.sink.fail(signal.reason);
      };
      answer.use(exchange);
      signal.addEventListener("abort", abort);
    });
}

const MAX_WAITING_BYTES = 64 * 1024;

function openAnswer(
  resolve: (response: Response) => void,
  reject: (error: unknown) => void,
  onOver: () => void,
): { sink: AnswerSink; use: (exchange: Exchange) => void } {
  let exchange: Exchange | null = null;
  let controller: ReadableStreamDefaultController<Uint8Array> | null = null;
  let isOver = false;
  const over = () => {
    isOver = true;
    onOver();
  };
  const stream = () =>
    new ReadableStream<Uint8Array>(
      {
        start: (own) => {
          controller = own;
        },
        pull: () => exchange?.resume(),
        cancel: () => {
          over();
          exchange?.abort();
        },
      },
      { highWaterMark: MAX_WAITING_BYTES, size: (bytes) => bytes?.length ?? 0 },
    );
  const sink: AnswerSink = {
    head: (head) => resolve(responseOf(head, stream())),
    data(bytes) {
      if (isOver) return;
      controller?.enqueue(bytes);
      if ((controller?.desiredSize ?? 0) <= 0) exchange?.pause();
    },
    end() {
      if (isOver) return;
      over();
      controller?.close();
    },
    fail(error) {
      if (isOver) return;
      over();
      reject(error);
      controller?.error(error);
    },
  };
  return {
    sink,
    use: (own) => {
      exchange = own;
    },
  };
}

function responseOf({ status, fields }: AnswerHead, stream: ReadableStream<Uint8Array>): Response {
  const isEmpty = status === 204 || status === 205 || status === 304;
  const headers = new Headers(fields.map(([name, value]): [string, string] => [name, value]));
  return new Response(isEmpty ? null : stream, { status, headers });
}

const OF_CONNECTION =
  /^(?:host|content-length|transfer-encoding|connection|proxy-connection|keep-alive|te|trailer|upgrade|expect)$/;

function fieldsOf({ headers }: UpstreamRequest): string {
  let text = "";
  for (const [name, value] of headers) {
    if (!OF_CONNECTION.test(name)) text += `${name}: ${value}\r\n`;
  }
  return text;
}
