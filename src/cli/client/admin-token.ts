/** What a command shows the head, so that it may: a file's, the environment's, or this machine's. */

import { usage } from "../base/messages.ts";
import { readFileSync } from "node:fs";
import { LlmnodeError, messageOf } from "../../protocol/errors.ts";
import { isAdminToken, readLocalAdmin } from "../../protocol/head-files.ts";
import { isLoopback } from "../../util/host-port.ts";
import { readTokenFile } from "../config/contexts.ts";
import type { Environment } from "../base/options.ts";

export interface CredentialSource {
  /** The head that is asked: an origin. */
  url: string;
  env: Environment;
  /** Where a head on this machine keeps its admin token; null: nowhere. */
  dataDir: string | null;
  /** A file with an admin token or an API key; null: none was named. */
  file: string | null;
}

/**
 * Of `--token-file`, `LLMNODE_ADMIN_TOKEN`, the data directory of the head on this machine and
 * `LLMNODE_API_KEY` the first one there is; null without any. Throws `usage` for a file that cannot be used,
 * `forbidden` where an admin token would be seen on the way.
 */
export function credentialFor(source: CredentialSource): string | null {
  const { url, env, dataDir, file } = source;
  const given =
    fromFile(file) ??
    (env["LLMNODE_ADMIN_TOKEN"] ||
      // Whoever may do all is not held up by a key that is meant for asking models.
      localToken(url, dataDir) ||
      env["LLMNODE_API_KEY"] ||
      null);
  if (given === null) return null;
  const credential = given.trim();
  if (!/^[\x21-\x7e]{1,4096}$/.test(credential)) {
    throw usage("the admin token or API key contains characters that are not visible text");
  }
  if (
    isAdminToken(credential) &&
    !isPrivate(url) &&
    !/^(1|true|yes|on)$/i.test(env["LLMNODE_INSECURE"] ?? "")
  ) {
    throw new LlmnodeError(
      "forbidden",
      `the admin token is not sent to ${url}, where others can read along`,
      {
        hints: [
          "by TLS:   llmnode --head https://<name>:<port> ...   (the head: --tls-cert, --tls-key)",
          "on a network that you trust, for a head with --insecure:   LLMNODE_INSECURE=1 llmnode ...",
        ],
      },
    );
  }
  return credential;
}

/** Only the head that has made it may see it, not whatever else listens on this machine. */
function localToken(url: string, dataDir: string | null): string | null {
  const local = dataDir === null ? null : readLocalAdmin(dataDir);
  if (!local) return null;
  return [local.url, local.adminUrl].some((one) => isSame(url, one)) ? local.token : null;
}

/** Where operators ask the head at `url`: elsewhere only if it is this machine's and says so. */
export function operatorsUrl(url: string, dataDir: string | null): string {
  const local = dataDir === null ? null : readLocalAdmin(dataDir);
  return local?.adminUrl && isSame(url, local.url) ? local.adminUrl : url;
}

function isSame(url: string, local: string | null): boolean {
  const asked = URL.parse(url);
  const known = local === null ? null : URL.parse(local);
  if (!asked || !known || portOf(asked) !== portOf(known)) return false;
  return isLoopback(asked.hostname) || asked.hostname === known.hostname;
}

function portOf({ protocol, port }: URL): string {
  return port || (protocol === "https:" ? "443" : "80");
}

function isPrivate(url: string): boolean {
  const parsed = URL.parse(url);
  return parsed?.protocol === "https:" || isLoopback(parsed?.hostname ?? "");
}

/** `-` is standard input. */
function fromFile(file: string | null): string | null {
  if (file !== "-") return file && readTokenFile(file, "--token-file");
  try {
    return readFileSync(0, "utf8");
  } catch (error) {
    throw usage(`--token-file -: nothing can be read: ${messageOf(error)}`);
  }
}
