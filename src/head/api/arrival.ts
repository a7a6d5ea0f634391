/** A request that has arrived at one of the head's ports: who asks, for what, and what its answer has. */

import { LlmnodeError, messageOf } from "../../protocol/errors.ts";
import type { Caller } from "../../protocol/caller.ts";
import type { ProxyCall } from "../../proxy/request/context.ts";
import type { AnswerHeaders } from "../../proxy/request/headers.ts";
import type { Log } from "../../util/log.ts";
import type { Part } from "../access/access.ts";
import type { Identity } from "../access/auth.ts";
import { allowOrigin } from "../http/cors.ts";
import type { RequestPath } from "../http/paths.ts";

/** The part of `Bun.serve`'s server that a request needs. */
export interface Connection {
  timeout(request: Request, seconds: number): void;
  requestIP(request: Request): { address: string } | null;
}

export interface ArrivalOptions {
  log: Log;
  /** Whether the head is about to stop. */
  draining: () => boolean;
  /** The origin whose pages may call, `*` for any, null for none. */
  corsOrigin: string | null;
  /** Silence after which a connection without a running request is closed. */
  idleTimeoutS: number;
}

/** What is known from the start. */
interface Arrived {
  request: Request;
  connection: Connection;
  requestId: string;
  identity: Identity;
  part: Part;
}

/** One object for all that is asked of it on its way: nearly all requests go straight to the proxy. */
export class Arrival implements ProxyCall {
  readonly request: Request;
  readonly requestId: string;
  readonly identity: Identity;
  readonly part: Part;
  /** What its URL says, once that was read. */
  at: RequestPath = NOWHERE;
  /** Whether it is passed on, and to what path there. */
  isPassedOn = false;
  path = "";
  worker: string | null = null;
  readonly #options: ArrivalOptions;
  readonly #connection: Connection;
  #isKeptOpen = false;

  constructor(options: ArrivalOptions, arrived: Arrived) {
    this.#options = options;
    this.request = arrived.request;
    this.#connection = arrived.connection;
    this.requestId = arrived.requestId;
    this.identity = arrived.identity;
    this.part = arrived.part;
  }

  get caller(): Caller {
    return this.identity.caller;
  }

  get clientAddress(): string {
    return this.identity.caller.address;
  }

  complete(headers: AnswerHeaders): void {
    const { corsOrigin, draining } = this.#options;
    headers["x-request-id"] = this.requestId;
    allowOrigin(headers, this.request, corsOrigin);
    if (draining()) headers["connection"] = "close";
  }

  /** The same for an answer that is made already. */
  completed(response: Response): Response {
    const headers: AnswerHeaders = {};
    const vary = response.headers.get("vary");
    if (vary !== null) headers["vary"] = vary;
    this.complete(headers);
    for (const name in headers) response.headers.set(name, headers[name] ?? "");
    return response;
  }

  // Engines may be silent for minutes before the first token; our own rules end a request.
  keepOpen(): void {
    this.#isKeptOpen = true;
    this.#connection.timeout(this.request, 0);
  }

  // The lifted limit would stay with the connection, and keep dead clients' ones open for ever.
  onEnd(): void {
    if (this.#isKeptOpen) this.#connection.timeout(this.request, this.#options.idleTimeoutS);
  }

  /** What the client gets for a bug that only the log explains. */
  onBug(error: unknown): LlmnodeError {
    const { requestId } = this;
    this.#options.log.error("internal error", {
      request_id: requestId,
      error: messageOf(error),
      stack: error instanceof Error ? error.stack : undefined,
    });
    const message = `The head failed on this request; its log says why under ${requestId}.`;
    return new LlmnodeError("internal", message);
  }
}

const NOWHERE: RequestPath = { pathname: "", search: "", worker: null, service: null };
