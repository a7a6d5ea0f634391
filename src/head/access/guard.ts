/** Opens what decides who may ask the head for what, and what it writes down about that. */

import path from "node:path";
import type { Log } from "../../util/log.ts";
import { type Access, createAccess } from "./access.ts";
import { openAdminToken } from "./admin-token.ts";
import { type Audit, createAudit } from "./audit.ts";
import { type AuthDelayOptions, createAuthDelay } from "./auth-delay.ts";
import { type Keys, openKeys } from "./keys.ts";
import type { AccessOptions } from "./access.ts";
import type { HeadOptions } from "../options.ts";
import { repairModes } from "../store/secret-modes.ts";
import type { Store } from "../store/store.ts";
import { blockList } from "../transport/ways.ts";

export interface GuardOptions {
  options: HeadOptions;
  store: Store;
  delay?: Partial<AuthDelayOptions>;
  onFailure?: AccessOptions["onFailure"];
}

export interface Guard extends Disposable {
  keys: Keys;
  access: Access;
  audit: Audit;
}

/** Throws `data_dir_unusable`; `usage` for a range of proxies that is none. */
export function openGuard({ options, store, delay, onFailure }: GuardOptions): Guard {
  const { dataDir, log } = options;
  const { open, requireKey, publicStatus, trustedProxies = [] } = options.access ?? {};
  using stack = new DisposableStack();
  const dir = path.join(dataDir, "head");
  repairModes(dir, log);
  const keys = stack.use(openKeys({ store, log, now: Date.now }));
  const access = createAccess({
    keys,
    isAdmin: openAdminToken(dataDir),
    trustedProxies: trustedProxies.length === 0 ? null : blockList(trustedProxies),
    delay: stack.use(createAuthDelay({ now: () => performance.now(), ...delay })),
    open: open ?? false,
    requireKey: requireKey ?? false,
    insecure: options.insecure,
    metricsOpen: options.metricsOpen ?? false,
    publicStatus: publicStatus ?? false,
    ...(onFailure && { onFailure }),
  });
  warnOf(options, { keys, log });
  const opened = stack.move();
  return {
    keys,
    access,
    audit: createAudit({ dir, log, now: Date.now }),
    [Symbol.dispose]: () => opened.dispose(),
  };
}

/** Says what opens the head further than people may think. */
function warnOf({ access }: HeadOptions, { keys, log }: { keys: Keys; log: Log }): void {
  if (access?.open === true && keys.size === 0 && access.requireKey !== true) {
    log.warn("--open: whoever reaches this head may use its models, without a key");
  }
  if (access?.requireKey === true && keys.size === 0) {
    log.info("clients need an API key, and there is none yet: llmnode key create");
  }
}
