/** Holds back what a worker announces and its join token does not allow, and names it. */

import type { WireEngineReport } from "../../protocol/engine-report.ts";
import type { ModelList } from "../../protocol/messages.ts";
import { globMatcher } from "../../util/glob.ts";
import { cleanLine } from "../../util/text.ts";

export interface ModelGate {
  /** The report with only the expected models that are allowed, or without its service. */
  engine(report: WireEngineReport): WireEngineReport;
  /** The page with only the models that are allowed. */
  models(page: ModelList): ModelList;
  /** After the last page of a list: null when all of it was allowed. */
  verdict(engine: string): { none: boolean; text: string } | null;
}

interface Tally {
  revision: number;
  allowed: number;
  refused: number;
  /** A few of the names, for the message. */
  names: string[];
}

const MAX_NAMES = 5;
const MAX_ENGINES = 64;

/** `pattern` is that of the join token; null allows everything. */
export function createModelGate(pattern: string | null): ModelGate {
  const allows = pattern === null ? () => true : globMatcher(pattern);
  const tallies = new Map<string, Tally>();
  /** Services that are not allowed, by engine. */
  const services = new Map<string, string>();
  return {
    engine(report) {
      const { engine, service } = report;
      const isRefused = service !== "" && !allows(service);
      if (!isRefused) services.delete(engine);
      else if (services.size < MAX_ENGINES) services.set(engine, service);
      const expectedModels = report.expectedModels.filter(allows);
      return { ...report, expectedModels, service: isRefused ? "" : service };
    },
    models(page) {
      if (pattern === null) return page;
      const last = tallies.get(page.engine);
      const tally =
        last?.revision === page.revision
          ? last
          : { revision: page.revision, allowed: 0, refused: 0, names: [] };
      const models = page.models.filter(({ id }) => allows(id));
      tally.allowed += models.length;
      tally.refused += page.models.length - models.length;
      for (const { id } of page.models) {
        if (!allows(id) && tally.names.length < MAX_NAMES) tally.names.push(cleanLine(id, 60));
      }
      // As many engines as may exist at all; a worker that invents more is refused elsewhere.
      if (tallies.size < MAX_ENGINES || last) tallies.set(page.engine, tally);
      return { ...page, models };
    },
    verdict(engine) {
      const service = services.get(engine);
      if (service !== undefined) {
        const name = cleanLine(service, 60);
        const text = `its join token allows only names like ${pattern}, not the service ${name}`;
        return { none: true, text };
      }
      const tally = tallies.get(engine);
      if (!tally || tally.refused === 0) return null;
      const more = tally.refused - tally.names.length;
      const names = `${tally.names.join(", ")}${more > 0 ? ` and ${more} more` : ""}`;
      return {
        none: tally.allowed === 0,
        text: `its join token allows only models like ${pattern}, not ${names}`,
      };
    },
  };
}
