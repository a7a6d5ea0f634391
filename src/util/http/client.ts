/** Asks HTTP/1.1 servers, and takes no more of an answer than its reader has room for. */

// Why not fetch: Bun's reads ahead up to 1.8 MB of every answer that is not read. Here it is what
// one read of the socket gave: at most 512 KiB, mostly far less.

import { type AnswerBody, createAnswerBody } from "./body.ts";
import { type AnswerHead, createAnswerReader } from "./answer.ts";
import { type HttpConnection, openConnection } from "./connection.ts";

export interface HttpRequest {
  /** `http:` or `https:`; a certificate is not verified. */
  url: URL;
  method: string;
  /** What speaks of the connection or of the body's length is left out. */
  headers: readonly (readonly [string, string])[];
  body: Uint8Array | AsyncIterable<Uint8Array> | null;
  /** The length of a streamed body; null when it is not known. */
  length: number | null;
  /** A connection that was not used before. */
  fresh: boolean;
  /** Ends the request and its answer. */
  signal: AbortSignal;
}

export interface HttpAnswer extends AnswerHead {
  readonly body: AnswerBody;
}

export interface HttpClient extends Disposable {
  /**
   * Settles with the head of the answer. Rejects with the signal's reason, and with the codes of
   * the system: ETIMEDOUT (nothing accepts the connection in time), ECONNREFUSED, ENOTFOUND, ...,
   * ECONNRESET (it broke, or a kept connection was closed meanwhile), EPROTO (no HTTP/1.1).
   */
  send(request: HttpRequest): Promise<HttpAnswer>;
}

export interface HttpClientOptions {
  connectTimeoutMs?: number;
  /** How long a free connection is kept: less than servers keep theirs, uvicorn 5 s. */
  idleMs?: number;
  /** Free connections that are kept; one more is closed. */
  maxIdle?: number;
  /** What may wait for the reader of one answer before its connection is read no further. */
  maxWaitingBytes?: number;
}

interface Idle {
  connection: HttpConnection;
  origin: string;
  since: number;
}

export function createHttpClient(options: HttpClientOptions = {}): HttpClient {
  const { connectTimeoutMs = 2000, idleMs = 4000, maxIdle = 256 } = options;
  const { maxWaitingBytes = 64 * 1024 } = options;
  /** The longest free first. */
  let idle: Idle[] = [];
  let sweeping: ReturnType<typeof setTimeout> | null = null;
  let disposed = false;

  const take = (origin: string): HttpConnection | null => {
    const at = idle.findLastIndex((one) => one.origin === origin);
    return at === -1 ? null : (idle.splice(at, 1)[0]?.connection ?? null);
  };
  const sweep = () => {
    const now = performance.now();
    const old = idle.filter(({ since }) => now - since >= idleMs);
    idle = idle.filter((one) => !old.includes(one));
    for (const { connection } of old) connection.close();
    sweeping = idle.length === 0 ? null : setTimeout(sweep, idleMs);
  };
  const park = (connection: HttpConnection, origin: string) => {
    if (disposed || idle.length >= maxIdle) return connection.close();
    idle.push({ connection, origin, since: performance.now() });
    const leave = () => {
      idle = idle.filter((one) => one.connection !== connection);
      connection.close();
    };
    // Nothing was asked: whatever comes is the end of it.
    connection.user = { data: leave, broke: leave };
    sweeping ??= setTimeout(sweep, idleMs);
  };
  return {
    async send(request) {
      const { url, signal } = request;
      signal.throwIfAborted();
      const connection =
        (request.fresh ? null : take(url.origin)) ??
        (await openConnection(url, { timeoutMs: connectTimeoutMs, signal }));
      return await exchange(connection, request, {
        maxWaitingBytes,
        onFree: () => park(connection, url.origin),
      });
    },
    [Symbol.dispose]() {
      disposed = true;
      if (sweeping !== null) clearTimeout(sweeping);
      for (const { connection } of idle.splice(0)) connection.close();
    },
  };
}

/** One request and its answer on a connection that nothing else uses. */
function exchange(
  connection: HttpConnection,
  request: HttpRequest,
  { maxWaitingBytes, onFree }: { maxWaitingBytes: number; onFree: () => void },
): Promise<HttpAnswer> {
  const { signal } = request;
  const answer = Promise.withResolvers<HttpAnswer>();
  let isSent = false;
  let isOver = false;
  const body = createAnswerBody({
    maxWaitingBytes,
    onFull: connection.pause,
    onRoom: () => isOver || connection.resume(),
  });
  const leave = () => {
    isOver = true;
    signal.removeEventListener("abort", abort);
  };
  const fail = (error: unknown) => {
    if (isOver) return;
    leave();
    connection.close();
    answer.reject(error);
    body.fail(error);
  };
  const abort = () => fail(signal.reason);
  const reader = createAnswerReader(request.method, {
    head: (head) => answer.resolve({ ...head, body }),
    body: body.push,
    end(isReusable) {
      leave();
      body.end();
      connection.resume();
      // A server that answers before it has all is not to get the rest as its next request.
      if (isReusable && isSent) onFree();
      else connection.close();
    },
  });
  const attempt = (act: () => void) => {
    try {
      act();
    } catch (error) {
      fail(error);
    }
  };
  connection.user = {
    data: (bytes) => attempt(() => reader.push(bytes)),
    broke: (error) => (error === null ? attempt(() => reader.finish()) : fail(error)),
  };
  signal.addEventListener("abort", abort);
  writeRequest(connection, request, () => isOver).then((isWhole) => {
    isSent = isWhole;
  }, fail);
  return answer.promise;
}

/** False when it was not needed whole, or could not be sent: then the connection has reported it. */
async function writeRequest(
  connection: HttpConnection,
  request: HttpRequest,
  isOver: () => boolean,
): Promise<boolean> {
  const { body, length } = request;
  const head = Buffer.from(requestHead(request), "latin1");
  if (body === null) return await connection.write(head);
  // In one piece where it is small: a second packet would cost the server a second look.
  if (body instanceof Uint8Array) return await connection.write(Buffer.concat([head, body]));
  if (!(await connection.write(head))) return false;
  let sentBytes = 0;
  for await (const chunk of body) {
    if (isOver()) return false;
    sentBytes += chunk.length;
    if (length !== null && sentBytes > length) break;
    // An empty one would end the body.
    if (chunk.length === 0) continue;
    const chunked =
      length === null
        ? Buffer.concat([Buffer.from(`${chunk.length.toString(16)}\r\n`), chunk, CRLF])
        : chunk;
    if (!(await connection.write(chunked))) return false;
  }
  if (length === null) return await connection.write(LAST_CHUNK);
  if (sentBytes !== length) throw new Error(`a body of ${length} bytes was to be sent`);
  return true;
}

const CRLF = Buffer.from("\r\n");
const LAST_CHUNK = Buffer.from("0\r\n\r\n");

/** What is for one connection only, or is set here (RFC 9110, 7.6.1). */
const OWN = new Set([
  ...["host", "content-length", "transfer-encoding", "connection", "proxy-connection"],
  ...["keep-alive", "te", "trailer", "upgrade", "expect"],
]);

function requestHead({ url, method, headers, body, length }: HttpRequest): string {
  let text = `${method} ${url.pathname}${url.search} HTTP/1.1\r\nhost: ${url.host}\r\nconnection: keep-alive\r\n`;
  for (const [name, value] of headers) {
    if (!OWN.has(name.toLowerCase())) text += `${name}: ${value}\r\n`;
  }
  const bytes = body instanceof Uint8Array ? body.length : body === null ? 0 : length;
  if (bytes === null) text += "transfer-encoding: chunked\r\n";
  else if (body !== null || method === "POST" || method === "PUT") {
    text += `content-length: ${bytes}\r\n`;
  }
  return `${text}\r\n`;
}
