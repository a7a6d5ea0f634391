/** Opens what decides who may ask the head for what, and what it writes down about that. */

import path from "node:path";
import { blockList } from "../../util/address-ranges.ts";
import type { Log } from "../../util/log.ts";
import { type Access, type AccessOptions, createAccess } from "./access.ts";
import { openAdminToken } from "./admin-token.ts";
import type { AccessMode } from "./modes.ts";
import type { PublicPart } from "../http/route-table.ts";
import { type Audit, createAudit } from "./audit.ts";
import { type AuthDelayOptions, createAuthDelay } from "./auth-delay.ts";
import { type Keys, openKeys } from "./keys.ts";
import { repairModes } from "../store/secret-modes.ts";
import type { Store } from "../store/store.ts";

export interface GuardOptions {
  /** The data directory; the head's folder in it is for one head at a time. */
  dataDir: string;
  log: Log;
  store: Store;
  /** Who may use models; `auto` by default. */
  access?: AccessMode;
  /** What is shown to everyone; nothing by default. */
  public?: Partial<Record<PublicPart, boolean>>;
  /** Addresses and ranges of proxies whose `x-forwarded-for` counts. */
  trustedProxies?: readonly string[];
  /** No TLS for workers, whose join tokens count all the same; plain HTTP for operators elsewhere. */
  insecure: boolean;
  delay?: Partial<AuthDelayOptions>;
  onFailure?: AccessOptions["onFailure"];
}

export interface Guard extends Disposable {
  keys: Keys;
  access: Access;
  audit: Audit;
}

/** Throws `data_dir_unusable`; `usage` for a range of proxies that is none. */
export function openGuard(options: GuardOptions): Guard {
  const { dataDir, log, store, trustedProxies = [], onFailure } = options;
  const mode = options.access ?? "auto";
  using stack = new DisposableStack();
  const dir = path.join(dataDir, "head");
  repairModes(dir, log);
  const keys = stack.use(openKeys({ store, log, now: Date.now }));
  const access = createAccess({
    keys,
    isAdmin: openAdminToken(dataDir),
    trustedProxies: trustedProxies.length === 0 ? null : blockList(trustedProxies),
    delay: stack.use(createAuthDelay({ now: () => performance.now(), ...options.delay })),
    mode,
    insecure: options.insecure,
    public: { status: false, metrics: false, ...options.public },
    ...(onFailure && { onFailure }),
  });
  warnOf(mode, { keys, log });
  const opened = stack.move();
  return {
    keys,
    access,
    audit: createAudit({ dir, log, now: Date.now }),
    [Symbol.dispose]: () => opened.dispose(),
  };
}

/** Says what opens the head further than people may think. */
function warnOf(mode: AccessMode, { keys, log }: { keys: Keys; log: Log }): void {
  if (mode === "open") {
    log.warn("--access open: anyone who can reach this head may use its models, without a key");
  }
  if (mode === "keys" && keys.size === 0) {
    log.info("clients need an API key, and there is none yet: llmnode key create");
  }
}
