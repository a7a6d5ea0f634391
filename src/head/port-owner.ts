/** Says who has a port that the head wanted. */

import { portOwner } from "../engine/process/network.ts";
import { LlmnodeError } from "../protocol/errors.ts";

/** Runs `open`; a `port_in_use` of it gets the name of the program that has the port, if known. */
export async function namingOwner<T>(port: number, open: () => T | Promise<T>): Promise<T> {
  try {
    return await open();
  } catch (error) {
    if (!(error instanceof LlmnodeError) || error.code !== "port_in_use") throw error;
    const owner = await portOwner(port);
    if (owner === null) throw error;
    throw new LlmnodeError("port_in_use", `${error.message} by ${owner.name} (pid ${owner.pid})`, {
      hints: [...error.hints],
      cause: error.cause,
    });
  }
}
