/** Takes an engine's rules out of a test's flat options and puts them into its spec. */

import type { EngineRules, EngineSpec, EngineTarget } from "../../src/engine/spec.ts";

const RULES = {
  ...{ port: 0, env: 0, cwd: 0, gpus: 0, restart: 0, adopt: 0, startTimeoutMs: 0 },
  ...{ maxInFlight: 0, healthPath: 0, service: 0, selfCommand: 0 },
} satisfies Record<keyof EngineRules, 0>;

export function withSpec<T extends EngineRules>(
  target: EngineTarget,
  options: T,
): Omit<T, keyof EngineRules> & { engine: EngineSpec } {
  const pick = (isRule: boolean) =>
    Object.fromEntries(Object.entries(options).filter(([name]) => name in RULES === isRule));
  const rest = pick(false) as Omit<T, keyof EngineRules>;
  return { ...rest, engine: { ...target, ...pick(true) } };
}
