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

/** Looks so often in the shortest of its times: what is over is seen a quarter late at most. */
const SWEEPS = 4;

export class Pool implements Disposable {
  readonly #options: PoolOptions;
  readonly #createUpstream: (origin: Origin) => Upstream;
  readonly #byUrl = new Map<string, Origin>();
  readonly #opening = new Set<HttpConnection>();
  #idle = 0;
  #sweeping: ReturnType<typeof setTimeout> | null = null;
  #isDisposed = false;

  constructor(options: PoolOptions, createUpstream: (origin: Origin) => Upstream) {
    this.#options = options;
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

  /** Whether one more connection may be kept; if so, it counts. */
  mayKeep(): boolean {
    if (this.#isDisposed || this.#idle >= this.#options.maxIdle) return false;
    this.#idle += 1;
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
    const { connectTimeoutMs, idleMs } = this.#options;
    this.#sweeping ??= setTimeout(() => this.#sweep(), Math.min(connectTimeoutMs, idleMs) / SWEEPS);
  }

  #sweep(): void {
    this.#sweeping = null;
    const now = performance.now();
    const { connectTimeoutMs, idleMs } = this.#options;
    for (const connection of this.#opening) {
      if (now - connection.since < connectTimeoutMs) continue;
      connection.break(coded("nothing accepts connections there", "ETIMEDOUT"));
    }
    for (const [url, origin] of this.#byUrl) {
      origin.closeIdle(now - idleMs);
      if (origin.connections === 0) this.#byUrl.delete(url);
    }
    if (this.#opening.size > 0 || this.#idle > 0) this.sweepSoon();
  }

  /** Requests under way go on, and close their connections. */
  [Symbol.dispose](): void {
    this.#isDisposed = true;
    for (const origin of this.#byUrl.values()) origin.closeIdle(Infinity);
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
    if (!this.#pool.mayKeep()) return connection.close();
    connection.since = performance.now();
    connection.resume();
    this.#idle.push(connection);
  }

  closeIdle(before: number): void {
    for (const connection of this.#idle.filter(({ since }) => since <= before)) connection.close();
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
