/** Loads the embedded `llmnode.proto` and gives grpc-js its service definition. */

import {
  loadPackageDefinition,
  logVerbosity,
  type ServiceDefinition,
  setLogVerbosity,
} from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import protoPath from "../../proto/llmnode.proto" with { type: "file" };

let loaded: ServiceDefinition | null = null;

/**
 * The definition of the `Cluster` service, for `Server.addService` and for clients. The same for
 * all of a process: a definition brings code of its own, which is compiled anew for each.
 */
export function loadService(): ServiceDefinition {
  loaded ??= load();
  return loaded;
}

function load(): ServiceDefinition {
  // Its log repeats as bare lines what we say in words; a user who sets the variable wants them.
  if (process.env["GRPC_VERBOSITY"] === undefined) setLogVerbosity(logVerbosity.NONE);
  let node: unknown = loadPackageDefinition(
    loadSync(protoPath, {
      defaults: true,
      arrays: true,
      objects: true,
      oneofs: true,
      enums: String,
      longs: Number,
    }),
  );
  for (const part of ["llmnode", "v1", "Cluster", "service"]) {
    node = hasMembers(node) ? node[part] : undefined;
  }
  if (hasMembers(node)) return node as ServiceDefinition;
  throw new Error("llmnode.proto does not define llmnode.v1.Cluster");
}

/** An object, or a class such as that of the client. */
function hasMembers(value: unknown): value is Record<string, unknown> {
  return (typeof value === "object" || typeof value === "function") && value !== null;
}
