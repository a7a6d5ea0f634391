/** Errors of connections, with the system's codes. */

export function coded(message: string, code: string): Error {
  return Object.assign(new Error(message), { code });
}

/** An error of a socket: a broken connection where it has no code of its own. */
export function withCode(error: unknown): Error {
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  const message = error instanceof Error ? error.message : String(error);
  return coded(message, code === "" ? "ECONNRESET" : code.replace(/^DNS_/, ""));
}
