/** One TCP or TLS connection to an HTTP server, used by one request after the other. */

import { withCode } from "./failure.ts";

export interface ServerAddress {
  hostname: string;
  port: number;
  isSecure: boolean;
}

/** Whose request and answer it carries. */
export interface ConnectionUser {
  onOpen(): void;
  onData(bytes: Buffer): void;
  /** All that was written is with the system. */
  onDrain(): void;
  /** Called once, not after `close`; null where the server ended it in order. */
  onBreak(error: Error | null): void;
}

export interface ConnectionOwner {
  /** It can be written to. */
  onOpened(connection: HttpConnection): void;
  /** Called once, however it came to be closed. */
  onClosed(connection: HttpConnection): void;
}

export class HttpConnection {
  /** Null: nothing was asked, and whatever comes is the end of it. */
  user: ConnectionUser | null;
  /** How often it was looked at since it was begun, or became free. */
  age = 0;
  isOpen = false;
  readonly address: ServerAddress;
  readonly #owner: ConnectionOwner;
  #socket: Bun.Socket<HttpConnection> | null = null;
  #isClosed = false;
  #isPaused = false;
  /** What the system has not taken yet. */
  #unsent: Uint8Array | null = null;

  /** Opens it. A server's certificate is not verified. */
  constructor(address: ServerAddress, owner: ConnectionOwner, user: ConnectionUser) {
    this.#owner = owner;
    this.user = user;
    const { hostname, port, isSecure } = address;
    this.address = address;
    const tls = { rejectUnauthorized: false, serverName: hostname };
    const options = { hostname, port, ...(isSecure ? { tls } : {}) };
    // A promise first: nothing is told from within the call that opens.
    void Promise.resolve()
      .then(() => Bun.connect({ ...options, socket: HttpConnection.#HANDLERS, data: this }))
      .catch((error: unknown) => this.break(withCode(error)));
  }

  /**
   * True when the system has taken all; otherwise `onDrain` follows, and the bytes must not change
   * until then. One at a time.
   */
  write(bytes: Uint8Array): boolean {
    const sent = this.#send(bytes, bytes.length);
    this.#unsent = sent < bytes.length ? bytes.subarray(sent) : null;
    return this.#unsent === null;
  }

  /** The same for the first bytes of a memory that is used again at once. */
  writeCopy(memory: Uint8Array, length: number): boolean {
    const sent = this.#send(memory, length);
    this.#unsent = sent < length ? memory.slice(sent, length) : null;
    return this.#unsent === null;
  }

  #send(bytes: Uint8Array, length: number): number {
    // Of a socket that is gone already, -1: its end is told apart.
    return this.#isClosed ? 0 : Math.max(0, this.#socket?.write(bytes, 0, length) ?? 0);
  }

  /** Reads no further; then only what was read already is passed on. */
  pause(): void {
    if (this.#isPaused || this.#isClosed) return;
    this.#isPaused = true;
    // Before that, a handshake may have to be read.
    if (this.isOpen) this.#socket?.pause();
  }

  resume(): void {
    if (!this.#isPaused || this.#isClosed) return;
    this.#isPaused = false;
    if (this.isOpen) this.#socket?.resume();
  }

  /** At once, whatever is under way. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.user = null;
    this.#unsent = null;
    this.#owner.onClosed(this);
    this.#socket?.terminate();
  }

  /** Closes it and tells its user why: null where the server ended it in order. */
  break(error: Error | null): void {
    if (this.#isClosed) return;
    const { user } = this;
    this.close();
    user?.onBreak(error);
  }

  #opened(): void {
    if (this.#isClosed || this.isOpen) return;
    this.isOpen = true;
    this.#owner.onOpened(this);
    if (this.#isPaused) this.#socket?.pause();
    this.user?.onOpen();
  }

  #took(bytes: Buffer): void {
    if (this.user === null) this.close();
    else this.user.onData(bytes);
  }

  #drained(): void {
    if (this.#unsent !== null && this.write(this.#unsent)) this.user?.onDrain();
  }

  static readonly #HANDLERS: Bun.SocketHandler<HttpConnection> = {
    open(socket) {
      const connection = socket.data;
      if (connection.#isClosed) return void socket.terminate();
      connection.#socket = socket;
      socket.setNoDelay(true);
      if (!connection.address.isSecure) connection.#opened();
    },
    // Of TLS only. Whoever vouches for the certificate is not asked; that TLS is spoken is.
    handshake(socket, _isTrusted, error) {
      if (error !== null && "code" in error && error.code === "EPROTO") {
        socket.data.break(withCode(error));
      } else {
        socket.data.#opened();
      }
    },
    data: (socket, bytes) => socket.data.#took(bytes),
    drain: (socket) => socket.data.#drained(),
    end: (socket) => socket.data.break(null),
    close: (socket, error) => socket.data.break(error === undefined ? null : withCode(error)),
    error: (socket, error) => socket.data.break(withCode(error)),
    connectError: (socket, error) => socket.data.break(withCode(error)),
  };
}
