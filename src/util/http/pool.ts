/** The connections to servers: those that are free wait for the next request to the same one. */

import {
  type ConnectionOwner,
  type ConnectionUser,
  HttpConnection,
  type ServerAddress,
} from "./connection.ts";
import type { Upstream } from "./exchange.ts";
import { coded } from "./failure.ts";

export interface PoolOptions {
  connectTimeoutMs: number;
  /** How long a free connection is kept. */
  idleMs: number;
  /** Free connections that are kept; one more is closed. */
  maxIdle: number;
}

/** Looks so often in the shortest of its times: what is over is seen that part of it late at most. */
const SWEEPS = 4;

export class Pool implements Disposable {
  readonly #maxIdle: number;
  readonly #sweepMs: number;
  /** In sweeps, not by the clock: where the process was held up, so are its deadlines. */
  readonly #connectSweeps: number;
  readonly #idleSweeps: number;
  readonly #createUpstream: (origin: Origin) => Upstream;
  readonly #byUrl = new Map<string, Origin>();
  readonly #opening = new Set<HttpConnection>();
  readonly #withIdle = new Set<Origin>();
  #idle = 0;
  #sweeping: ReturnType<typeof setTimeout> | null = null;
  #isDisposed = false;

  constructor(options: PoolOptions, createUpstream: (origin: Origin) => Upstream) {
    const { connectTimeoutMs, idleMs, maxIdle } = options;
    this.#maxIdle = maxIdle;
    this.#sweepMs = Math.min(connectTimeoutMs, idleMs) / SWEEPS;
    this.#connectSweeps = Math.ceil(connectTimeoutMs / this.#sweepMs);
    this.#idleSweeps = Math.ceil(idleMs / this.#sweepMs);
    this.#createUpstream = createUpstream;
  }

  /** Throws where that is no address. Servers without connections are forgotten in time. */
  origin(baseUrl: string): Origin {
    const known = this.#byUrl.get(baseUrl);
    if (known !== undefined) return known;
    const origin = new Origin(this, new URL(baseUrl), this.#createUpstream);
    this.#byUrl.set(baseUrl, origin);
    this.sweepSoon();
    return origin;
  }

  /** Whether a server may keep one more connection; if so, it counts. */
  mayKeep(origin: Origin): boolean {
    if (this.#isDisposed || this.#idle >= this.#maxIdle) return false;
    this.#idle += 1;
    this.#withIdle.add(origin);
    this.sweepSoon();
    return true;
  }

  leftIdle(): void {
    this.#idle -= 1;
  }

  opening(connection: HttpConnection): void {
    this.#opening.add(connection);
    this.sweepSoon();
  }

  /** It is open, or closed. */
  opened(connection: HttpConnection): void {
    this.#opening.delete(connection);
  }

  sweepSoon(): void {
    if (this.#isDisposed && this.#opening.size === 0) return;
    this.#sweeping ??= setTimeout(() => this.#sweep(), this.#sweepMs);
  }

  #sweep(): void {
    this.#sweeping = null;
    for (const connection of this.#opening) {
      connection.age += 1;
      if (connection.age <= this.#connectSweeps) continue;
      const { hostname, port } = connection.address;
      const message = `nothing accepts connections at ${hostname}:${port}`;
      connection.break(coded(message, "ETIMEDOUT"));
    }
    for (const origin of this.#withIdle) {
      if (!origin.ageIdle(this.#idleSweeps)) this.#withIdle.delete(origin);
    }
    for (const [url, origin] of this.#byUrl) {
      if (origin.connections === 0) this.#byUrl.delete(url);
    }
    if (this.#opening.size > 0 || this.#idle > 0) this.sweepSoon();
  }

  /** Requests under way go on, and close their connections. */
  [Symbol.dispose](): void {
    this.#isDisposed = true;
    for (const origin of this.#withIdle) origin.ageIdle(-1);
    if (this.#sweeping !== null && this.#opening.size === 0) clearTimeout(this.#sweeping);
  }
}

export class Origin implements ConnectionOwner {
  /** As it stands in a request. */
  readonly host: string;
  readonly upstream: Upstream;
  /** Free, in use and opening. */
  connections = 0;
  readonly #pool: Pool;
  readonly #address: ServerAddress;
  /** The longest free first. */
  readonly #idle: HttpConnection[] = [];

  constructor(pool: Pool, url: URL, createUpstream: (origin: Origin) => Upstream) {
    const isSecure = url.protocol === "https:";
    this.#pool = pool;
    this.host = url.host;
    this.#address = {
      hostname: url.hostname.replace(/^\[|\]$/g, ""),
      port: Number(url.port) || (isSecure ? 443 : 80),
      isSecure,
    };
    this.upstream = createUpstream(this);
  }

  /** The one that was used last; null: none is free. */
  take(user: ConnectionUser): HttpConnection | null {
    const connection = this.#idle.pop();
    if (connection === undefined) return null;
    this.#pool.leftIdle();
    connection.user = user;
    return connection;
  }

  open(user: ConnectionUser): HttpConnection {
    const connection = new HttpConnection(this.#address, this, user);
    this.connections += 1;
    this.#pool.opening(connection);
    return connection;
  }

  /** For another request. */
  keep(connection: HttpConnection): void {
    connection.user = null;
    if (!this.#pool.mayKeep(this)) return connection.close();
    connection.age = 0;
    connection.resume();
    this.#idle.push(connection);
  }

  /** Closes what has been free for more sweeps; false when none is left. */
  ageIdle(most: number): boolean {
    for (const connection of this.#idle) connection.age += 1;
    for (const connection of this.#idle.filter(({ age }) => age > most)) connection.close();
    return this.#idle.length > 0;
  }

  onOpened(connection: HttpConnection): void {
    this.#pool.opened(connection);
  }

  onClosed(connection: HttpConnection): void {
    this.connections -= 1;
    if (!connection.isOpen) this.#pool.opened(connection);
    const at = this.#idle.lastIndexOf(connection);
    if (at !== -1) {
      this.#idle.splice(at, 1);
      this.#pool.leftIdle();
    }
    // To be forgotten.
    if (this.connections === 0) this.#pool.sweepSoon();
  }
}
