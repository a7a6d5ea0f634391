/** Whether a filter can be read, before the head is asked. */

import { isField } from "../../cluster/rows/order.ts";
import { FilterError, parseFilter } from "../../protocol/filter.ts";
import type { View } from "../../protocol/watch-rows.ts";

/** What is wrong with it and at which column, from 1; null: nothing. */
export function filterProblem(view: View, text: string): string | null {
  try {
    parseFilter(text, (field) => isField(view, field));
    return null;
  } catch (error) {
    if (!(error instanceof FilterError)) throw error;
    return `${error.message} (column ${error.at + 1})`;
  }
}
