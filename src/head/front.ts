/** The head's ports for clients and operators, and the note by which commands on this machine trust them. */

import { messageOf } from "../protocol/errors.ts";
import { writeFrontNote } from "../protocol/head-files.ts";
import { formatHostPort, type HostPort } from "../util/host-port.ts";
import type { Api } from "./api/api.ts";
import {
  type ClientServer,
  type ClientServerOptions,
  startClientServer,
} from "./api/client-server.ts";
import type { HeadOptions, HeadSettings } from "./options.ts";
import { namingOwner } from "./port-owner.ts";

export interface FrontOptions {
  options: Pick<HeadOptions, "listen" | "adminListen" | "tls" | "dataDir" | "log">;
  settings: Pick<HeadSettings, "idleTimeoutS" | "tlsPollMs">;
  api: Api;
  /** For the port of operators, if they have one of their own. */
  adminApi: Api;
}

export interface Front extends AsyncDisposable {
  /** For clients on this machine. */
  readonly url: string;
  readonly adminUrl: string | null;
  /** The first name in the certificate. */
  readonly name: string | null;
  /** Whether requests of clients run. */
  isBusy(): boolean;
  reloadTls(): Promise<void>;
}

/** Throws `port_in_use`, `address_unusable`; `usage` for TLS files that cannot be used. */
export async function startFront({
  options,
  settings,
  api,
  adminApi,
}: FrontOptions): Promise<Front> {
  const { listen, adminListen = null, dataDir, log } = options;
  const { idleTimeoutS, tlsPollMs } = settings;
  await using stack = new AsyncDisposableStack();
  const shown: { url: string | null; certificate: string | null } = {
    url: null,
    certificate: null,
  };
  const note = () => {
    const { url, certificate } = shown;
    if (url === null) return;
    try {
      writeFrontNote(dataDir, certificate === null ? null : { url, certificate });
    } catch (error) {
      log.warn("commands on this machine may need --ca", { error: messageOf(error) });
    }
  };
  const serve = async (how: Pick<ClientServerOptions, "listen" | "flag" | "api">) => {
    const onCertificate = (pem: string) => {
      if (how.flag !== "listen") return;
      shown.certificate = pem;
      note();
    };
    const tls = options.tls ?? null;
    return stack.use(
      await namingOwner(how.listen.port, () =>
        startClientServer({ ...how, tls, log, idleTimeoutS, tlsPollMs, onCertificate }),
      ),
    );
  };
  const server = await serve({ listen, flag: "listen", api });
  const url = urlOf(server, listen);
  shown.url = url;
  note();
  const adminServer =
    adminListen && (await serve({ listen: adminListen, flag: "admin-listen", api: adminApi }));
  stack.defer(() => writeFrontNote(dataDir, null));
  const running = stack.move();
  return {
    url,
    adminUrl: adminServer && adminListen && urlOf(adminServer, adminListen),
    name: server.name,
    isBusy: () => server.pendingRequests > 0,
    async reloadTls() {
      await Promise.all([server.reloadTls(), adminServer?.reloadTls()]);
    },
    [Symbol.asyncDispose]: () => running.disposeAsync(),
  };
}

function urlOf({ scheme, port }: ClientServer, { host }: HostPort): string {
  return `${scheme}://${formatHostPort({ host: nearHost(host), port })}`;
}

/** Where a process on this machine reaches what listens on `host`. */
function nearHost(host: string): string {
  if (host === "0.0.0.0") return "127.0.0.1";
  return host === "::" ? "::1" : host;
}
