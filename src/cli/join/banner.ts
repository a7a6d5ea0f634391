/** What `llmnode join` says on a terminal once the worker is up: what it is, and what comes next. */

import { formatHostPort, type HostPort, isLoopback } from "../../util/host-port.ts";
import { maskSecrets } from "../../util/mask.ts";
import { cleanLine } from "../../util/text.ts";
import type { WorkerOptions } from "../../worker/options.ts";
import { shellWord } from "../base/shell-word.ts";
import { DEFAULT_HTTP_PORT, DEFAULT_SESSION_PORT } from "../daemon/daemon.ts";
import { typedName, versionFacts } from "../daemon/program.ts";
import type { Environment } from "../base/options.ts";

export interface WorkerFacts {
  name: string;
  /** Where its session goes. */
  head: HostPort;
  engine: WorkerOptions["engine"];
  /** RFC 3339; null: until it is stopped. */
  until: string | null;
  env: Environment;
}

export function workerBanner({ name, head, engine, until, env }: WorkerFacts): string {
  const program = typedName(env);
  const at = headOption(head);
  const what =
    "argv" in engine
      ? `${maskSecrets(engine.argv.map(shellWord).join(" "))}   (its output follows, after e1|)`
      : `${engine.attach}, which is run by others`;
  return [
    `llmnode ${versionFacts().version}: worker ${cleanLine(name, 100)} is up, Ctrl-C leaves`,
    "",
    `  head       ${formatHostPort(head)}`,
    `  engine     ${cleanLine(what, 300)}`,
    `  watch      ${program} top${at}`,
    `  wait       ${program} wait ${cleanLine(name, 100)} --for ready${at}`,
    ...(until === null ? [] : [`  until      ${until}`]),
    "",
    "",
  ].join("\n");
}

/** Of the head's HTTP port a worker knows nothing: it is likely its own where the other one is. */
function headOption({ host, port }: HostPort): string {
  if (port !== DEFAULT_SESSION_PORT) return ` --head ${hostOf(host)}:<the head's HTTP port>`;
  if (isLoopback(host)) return "";
  return ` --head ${formatHostPort({ host, port: DEFAULT_HTTP_PORT })}`;
}

function hostOf(host: string): string {
  return host.includes(":") ? `[${host}]` : host;
}
