/** Reads `join --via-proxy`: a proxy's URL, or the word that the environment names it. */

import { usage } from "../base/messages.ts";
import { parseProxyUrl } from "../../util/host-port.ts";
import { maskSecrets } from "../../util/mask.ts";
import { cleanLine } from "../../util/text.ts";
import type { Options, Environment, OptionSpec } from "../base/options.ts";

export const VIA_PROXY_VARIABLE = "LLMNODE_VIA_PROXY";

/** What the flag means without a value. */
const FROM_ENVIRONMENT = "env";

export const VIA_PROXY_OPTION: OptionSpec = {
  flag: "via-proxy",
  value: "<url>",
  bare: FROM_ENVIRONMENT,
  env: VIA_PROXY_VARIABLE,
  summary:
    "reach the head through this HTTP proxy; without <url>: that of HTTPS_PROXY or ALL_PROXY, which are not looked at otherwise",
};

const VARIABLES = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];

/** Null without the flag. Throws `usage`. */
export function readViaProxy(options: Options, env: Environment): URL | null {
  const text = options.text("via-proxy");
  if (text === null || /^(0|false|no|off)$/i.test(text)) return null;
  if (!/^(env|1|true|yes|on)$/i.test(text)) return proxyOf(text, "--via-proxy");
  const variable = VARIABLES.find((name) => env[name] !== undefined && env[name] !== "");
  if (variable !== undefined) return proxyOf(env[variable] ?? "", variable);
  throw usage(
    "--via-proxy: neither HTTPS_PROXY nor ALL_PROXY names a proxy",
    "name it:   --via-proxy http://<host>:<port>",
  );
}

function proxyOf(text: string, source: string): URL {
  const url = parseProxyUrl(text);
  if (url !== null) return url;
  const shown = cleanLine(maskSecrets(text), 80);
  const socks = /^socks/i.test(text) ? "; SOCKS proxies are not supported" : "";
  throw usage(
    `${source} needs the URL of an HTTP proxy, such as http://proxy:3128, not "${shown}"${socks}`,
  );
}
