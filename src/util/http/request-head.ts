/** The head of a request, as it is sent. */

import type { HttpRequest } from "./exchange.ts";
import { coded } from "./failure.ts";

const METHOD = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;
const PATH = /^\/[\x21-\x7e]*$/;
const HOST = /^[\x21-\x7e]+$/;
const FIELDS = /^(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*\r\n)*$/;

/** What would make another request of it, or several; null: nothing. */
export function faultOf({ method, path, host, fields }: HttpRequest): Error | null {
  if (!PATH.test(path)) return coded("the path of a request is not visible ASCII", "EINVAL");
  if (!FIELDS.test(fields))
    return coded("a field of a request is not one line of Latin-1", "EINVAL");
  if (!METHOD.test(method)) return coded("the method of a request is not a word", "EINVAL");
  if (host !== null && !HOST.test(host))
    return coded("the host of a request is not one word", "EINVAL");
  return null;
}

/** Latin-1 text, with the empty line. `ownHost`: the server's address. */
export function requestHead(request: HttpRequest, ownHost: string): string {
  const { method, path, host, fields } = request;
  return `${method} ${path} HTTP/1.1\r\nhost: ${host ?? ownHost}\r\nconnection: keep-alive\r\n${fields}${framing(request)}\r\n`;
}

function framing({ method, body, length }: HttpRequest): string {
  if (body instanceof Uint8Array) return `content-length: ${body.length}\r\n`;
  if (body !== null) {
    return length === null ? "transfer-encoding: chunked\r\n" : `content-length: ${length}\r\n`;
  }
  // Servers wait for a body of these, or refuse them, where nothing says that there is none.
  return method === "POST" || method === "PUT" || method === "PATCH" ? "content-length: 0\r\n" : "";
}
