/** One lane at the head: a request goes out on it, its answer comes back, then it is free again. */

import { type LaneFrame, writeFrame } from "../../protocol/lane-frames.ts";
import type { ExchangeCarrier, LaneExchange } from "./lane-exchange.ts";

/** What the socket of a lane can do. */
export interface LaneSocket {
  /** Copies them. False when the socket has refused the frame; then the lane must be closed. */
  send(bytes: Uint8Array<ArrayBuffer>): boolean;
  /** `fault` says which rule the worker has broken, if that is why. */
  close(fault?: string): void;
}

export interface LaneOwner {
  /** The lane can carry another request. */
  parked(lane: Lane): void;
  /** Its request was cancelled: the lane waits for the worker's last frame. */
  cancelled(lane: Lane): void;
  /** Called once, for whatever reason. */
  closed(lane: Lane): void;
}

export class Lane implements ExchangeCarrier {
  state: "parked" | "busy" | "closed" = "parked";
  /** When it was parked, or its request cancelled. */
  since = performance.now();
  readonly #socket: LaneSocket;
  readonly #owner: LaneOwner;
  #number = 0;
  #current: LaneExchange | null = null;

  constructor(socket: LaneSocket, owner: LaneOwner) {
    this.#socket = socket;
    this.#owner = owner;
  }

  /** Sends a request; to be called while parked only. */
  run(exchange: LaneExchange): void {
    this.state = "busy";
    this.#number += 1;
    this.#current = exchange;
    exchange.start(this, this.#number);
  }

  onFrame(frame: LaneFrame): void {
    const current = this.#current;
    if (current === null || frame.number !== this.#number) return;
    switch (frame.kind) {
      case "answer":
      case "body": {
        const fault = current.faultOf(frame);
        if (fault !== null) return this.close(fault);
        if (frame.isLast) this.#park();
        return current.take(frame);
      }
      case "credit":
        return current.addCredit(frame.count);
      case "error": {
        const { code, message } = frame.error;
        this.#park();
        return current.fail(broken(message, code));
      }
      case "done":
        this.#park();
        return current.fail(
          broken("the worker ended the request without its answer", "ECONNRESET"),
        );
      case "request":
      case "cancel":
        this.close(`a frame that only heads send: ${frame.kind}`);
    }
  }

  send(frame: LaneFrame): void {
    if (this.state === "closed" || this.#socket.send(writeFrame(frame))) return;
    // Not within the call that sends.
    queueMicrotask(() => this.close());
  }

  /** Late bytes of this request must not meet the next one: no last frame, no lane. */
  abandoned(exchange: LaneExchange): void {
    if (this.#current !== exchange) return;
    this.since = performance.now();
    this.#owner.cancelled(this);
    this.send({ kind: "cancel", number: this.#number });
  }

  /** To be called when the socket has closed. */
  onClosed(): void {
    if (this.state === "closed") return;
    this.state = "closed";
    const current = this.#current;
    this.#current = null;
    this.#owner.closed(this);
    current?.fail(broken("the lane broke", "LANE_BROKEN"));
  }

  /** `fault` says which rule the worker has broken, if that is why. */
  close(fault?: string): void {
    this.#socket.close(fault);
    this.onClosed();
  }

  #park(): void {
    this.#current = null;
    this.state = "parked";
    this.since = performance.now();
    this.#owner.parked(this);
  }
}

function broken(message: string, code: string): Error {
  return Object.assign(new Error(message), { code });
}
