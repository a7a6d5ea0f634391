/** Engines as the head reaches them directly. */

import { createHttpClient, type HttpClientOptions } from "../../src/util/http/client.ts";
import type { Upstream } from "../../src/util/http/exchange.ts";

export function directUpstream(origin: string, options: HttpClientOptions = {}): Upstream {
  return createHttpClient(options).at(origin);
}
