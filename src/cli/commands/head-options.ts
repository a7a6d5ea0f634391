/** What `llmnode head` can be told: its flags, their variables and their defaults. */

import { POLICIES } from "../../cluster/routing/policies.ts";
import { ACCESS_MODES } from "../../head/access/modes.ts";
import { PUBLIC_PARTS } from "../../head/http/route-table.ts";
import { DAEMON_OPTIONS, DATA_DIR_OPTION } from "../base/spec.ts";
import { type OptionSpec, withVariables } from "../base/options.ts";

const OWN_OPTIONS: readonly OptionSpec[] = [
  {
    flag: "listen",
    value: "<host:port>",
    default: "0.0.0.0:8092",
    summary: "where clients connect",
  },
  {
    flag: "session-listen",
    value: "<host:port>",
    default: "0.0.0.0:8093",
    summary: "where workers connect",
  },
  {
    flag: "lane-listen",
    value: "<host:port>",
    defaultNote: "the port above that of --session-listen: 0.0.0.0:8094",
    summary: "where workers open the connections that carry requests to them",
  },
  {
    flag: "tls-cert",
    value: "<pem>",
    isPath: true,
    summary: "serve clients by TLS with this certificate, read again when it changes or on SIGHUP",
  },
  {
    flag: "tls-key",
    value: "<pem>",
    isPath: true,
    summary: "the key that belongs to --tls-cert",
  },
  { ...DATA_DIR_OPTION, summary: "where the head keeps its key, its join tokens and its state" },
  {
    flag: "force",
    isTyped: true,
    summary: "backup: also into a file that is there already",
  },
  {
    flag: "insecure",
    summary:
      "do not encrypt the link to workers, who then need join --insecure; lets operators use plain http",
  },
  {
    flag: "max-body-size",
    value: "<size>",
    default: "64MiB",
    summary: "the largest request body that is accepted",
  },
  {
    flag: "allow-advertise",
    value: "<cidr>",
    repeat: true,
    summary: "addresses other than its own that a worker's --advertise may name",
  },
  {
    flag: "cors",
    value: "<origin>",
    summary: "let web pages of this origin call the API, * for any (off unless given)",
  },
  {
    flag: "max-requests-per-address",
    value: "<n>",
    default: "4096",
    summary: "requests that one client address may have running",
  },
  {
    flag: "routing",
    value: "<policy>",
    repeat: true,
    defaultNote: "auto",
    summary: `how replicas are picked, or <model>=<policy>: ${POLICIES.join(", ")}`,
  },
  {
    flag: "routing-tuning",
    value: "<key=value,...>",
    defaultNote: "g=0.1,k=8",
    summary: "how --routing auto weighs load (g, in seconds) and prompt caches (k)",
  },
  {
    flag: "queue-size",
    value: "<n>",
    default: "256",
    summary: "requests that may wait for a replica of one model",
  },
  {
    flag: "queue-timeout",
    value: "<duration>",
    default: "60s",
    summary: "how long they wait; for an engine that starts, this long after its usual time",
  },
  {
    flag: "settle-time",
    value: "<duration>",
    default: "30s",
    summary: "how long after the start a request for an unknown model waits for its worker",
  },
  {
    flag: "resume",
    value: "<auto|off>",
    default: "auto",
    summary: "let a stream whose engine dies go on elsewhere, where that is known to be right",
  },
  {
    flag: "shutdown-delay",
    value: "<duration>",
    default: "0",
    summary: "when stopped, not ready but serving for this long; 10s behind a load balancer",
  },
  {
    flag: "no-info-headers",
    summary: "answers without x-llmnode-worker, -attempts and -queue-ms",
  },
  {
    flag: "access",
    value: `<${ACCESS_MODES.join("|")}>`,
    default: "auto",
    summary:
      "who may use models: private networks until there is a key, always, keys only, or anyone",
  },
  {
    flag: "public",
    value: `<${PUBLIC_PARTS.join(",")}>`,
    repeat: true,
    summary: "what is shown to everyone: the status with the page at /, or /metrics, or both",
  },
  {
    flag: "admin-listen",
    value: "<host:port>",
    summary: "answer commands, status and metrics there alone, not where clients connect",
  },
  {
    flag: "trusted-proxy",
    value: "<cidr>",
    repeat: true,
    summary: "proxies in front whose x-forwarded-for says where a client is",
  },
  {
    flag: "no-request-log",
    summary: "no line per request on stdout",
  },
  {
    flag: "log-bodies",
    summary: "put prompts and answers into the request log; they are left out otherwise",
  },
  {
    flag: "otlp",
    value: "<url>",
    summary: "send traces there by OTLP/HTTP, such as http://127.0.0.1:4318",
  },
];

export const HEAD_OPTIONS: OptionSpec[] = [
  ...withVariables(OWN_OPTIONS, { without: ["force"] }),
  ...DAEMON_OPTIONS,
];
