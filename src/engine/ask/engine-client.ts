/** Asks an engine over HTTP, bounded in time and size. */

import { readUpTo } from "../../util/flow/bytes.ts";
import { LlmnodeError, messageOf, systemCode } from "../../protocol/errors.ts";
import { isLoopback } from "../../util/host-port.ts";
import { cleanLine } from "../../util/text.ts";
import { formatBytes, formatDuration } from "../../util/units.ts";

export interface EngineAnswer {
  status: number;
  text: string;
}

/**
 * Failures are LlmnodeErrors: `upstream_unreachable` and `upstream_timeout` are what an engine that
 * still starts does as well (refused, reset, 503, silent), `upstream_broken` is an answer that
 * waiting does not fix.
 */
export interface EngineClient {
  /** Any answer, whatever its status. Throws when there is none. */
  get(path: string): Promise<EngineAnswer>;
  /** The same for a JSON body. */
  post(path: string, body: object): Promise<EngineAnswer>;
  /** Throws unless there is an answer, whatever it says; its body is not read. */
  reach(path: string): Promise<void>;
  /** The JSON of a 2xx answer. Throws for any other. */
  json(path: string): Promise<unknown>;
}

export interface EngineClientOptions {
  /** Without a path. */
  url: string;
  apiKey: string | null;
  timeoutMs: number;
  answerMaxBytes: number;
  signal: AbortSignal;
  /** Whether a connection is kept for the next question: for those that are asked all the time. */
  keep?: boolean;
}

interface EngineRequest {
  path: string;
  /** With it the request is a POST. */
  body?: object;
}

export function engineClient(options: EngineClientOptions): EngineClient {
  const ask = async <T>(
    { path, body }: EngineRequest,
    read: (response: Response) => Promise<T>,
  ): Promise<T> => {
    const timeout = AbortSignal.timeout(options.timeoutMs);
    try {
      const response = await fetch(`${options.url}${path}`, {
        ...(body && { method: "POST", body: JSON.stringify(body) }),
        headers: {
          ...requestHeaders(options.apiKey),
          ...(body && { "content-type": "application/json" }),
        },
        // Engines are on this machine or next to it; a fresh connection also shows at once when one
        // no longer listens.
        proxy: false,
        keepalive: options.keep ?? false,
        redirect: "manual",
        // The engine's own certificate is rarely one that this machine trusts.
        tls: { rejectUnauthorized: !isLoopback(new URL(options.url).hostname) },
        signal: AbortSignal.any([timeout, options.signal]),
      });
      return await read(response);
    } catch (error) {
      const what = `${body ? "POST" : "GET"} ${path}`;
      throw toFailure(error, { what, timedOut: timeout.aborted, timeoutMs: options.timeoutMs });
    }
  };
  const answered = async (response: Response): Promise<EngineAnswer> => ({
    status: response.status,
    text: await readText(response, options.answerMaxBytes),
  });
  const get = (path: string) => ask({ path }, answered);
  return {
    get,
    post: (path, body) => ask({ path, body }, answered),
    reach: (path) => ask({ path }, async (response) => void (await response.body?.cancel())),
    async json(path) {
      const answer = await get(path);
      throwUnlessOk(path, answer);
      return parseJson(answer.text, `GET ${path}`);
    },
  };
}

/** Throws for an answer other than 2xx. */
export function throwUnlessOk(path: string, { status, text }: EngineAnswer): void {
  if (status >= 200 && status < 300) return;
  const detail = cleanLine(text, 120).trim();
  const message = `GET ${path} answers ${status}${detail === "" ? "" : `: ${detail}`}`;
  if (status === 503) throw new LlmnodeError("upstream_unreachable", message);
  const hints = status === 401 || status === 403 ? ["the engine wants its API key"] : [];
  throw new LlmnodeError("upstream_broken", message, { hints });
}

/** Throws `upstream_broken` for text that is no JSON; `what` names it. */
export function parseJson(text: string, what: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new LlmnodeError("upstream_broken", `${what} is not answered with JSON`, {
      cause: error,
    });
  }
}

function requestHeaders(apiKey: string | null): Record<string, string> {
  const headers = { accept: "application/json", "accept-encoding": "identity" };
  return apiKey === null ? headers : { ...headers, authorization: `Bearer ${apiKey}` };
}

async function readText(response: Response, maxBytes: number): Promise<string> {
  const { bytes, isWhole } = await readUpTo(response.body, maxBytes);
  if (isWhole) return new TextDecoder().decode(bytes);
  const message = `its answer is larger than ${formatBytes(maxBytes)}`;
  throw new LlmnodeError("upstream_broken", message);
}

function toFailure(
  error: unknown,
  { what, timedOut, timeoutMs }: { what: string; timedOut: boolean; timeoutMs: number },
): LlmnodeError {
  if (error instanceof LlmnodeError) return error;
  if (timedOut) {
    const message = `${what} was not answered within ${formatDuration(timeoutMs)}`;
    return new LlmnodeError("upstream_timeout", message, { cause: error });
  }
  const why = systemCode(error) ?? cleanLine(messageOf(error), 120);
  return new LlmnodeError("upstream_unreachable", `${what} failed: ${why}`, { cause: error });
}
