/** Operators' requests about what clients have running. */

import { type AdminRoutes, text } from "../http/body.ts";

/** `cancel` throws `not_found`. */
export function requestRoutes({ cancel }: { cancel: (id: string) => void }): AdminRoutes {
  return {
    "/api/v1/requests/cancel": {
      POST: async (body) => {
        const id = text(body, "id");
        cancel(id);
        return { request: { id } };
      },
    },
  };
}
