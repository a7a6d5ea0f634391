/** What `llmnode head` can be told: its flags, their variables and their defaults. */

import { POLICIES } from "../../cluster/routing/policies.ts";
import { ACCESS_MODES } from "../../head/access/modes.ts";
import { PUBLIC_PARTS } from "../../head/http/route-table.ts";
import { DAEMON_OPTIONS, DATA_DIR_OPTION } from "../base/spec.ts";
import type { OptionSpec } from "../base/options.ts";

export const HEAD_OPTIONS: OptionSpec[] = [
  {
    flag: "listen",
    value: "<host:port>",
    env: "LLMNODE_LISTEN",
    default: "0.0.0.0:8092",
    summary: "where clients connect",
  },
  {
    flag: "session-listen",
    value: "<host:port>",
    env: "LLMNODE_SESSION_LISTEN",
    default: "0.0.0.0:8093",
    summary: "where workers connect",
  },
  {
    flag: "lane-listen",
    value: "<host:port>",
    env: "LLMNODE_LANE_LISTEN",
    defaultNote: "the port above that of --session-listen: 0.0.0.0:8094",
    summary: "where workers open the connections that carry requests to them",
  },
  {
    flag: "tls-cert",
    value: "<pem>",
    env: "LLMNODE_TLS_CERT",
    isPath: true,
    summary: "serve clients by TLS with this certificate, read again when it changes or on SIGHUP",
  },
  {
    flag: "tls-key",
    value: "<pem>",
    env: "LLMNODE_TLS_KEY",
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
    env: "LLMNODE_INSECURE",
    summary:
      "do not encrypt the link to workers, who then need join --insecure; lets operators use plain http",
  },
  {
    flag: "max-body-size",
    value: "<size>",
    env: "LLMNODE_MAX_BODY_SIZE",
    default: "64MiB",
    summary: "the largest request body that is accepted",
  },
  {
    flag: "allow-advertise",
    value: "<cidr>",
    repeat: true,
    env: "LLMNODE_ALLOW_ADVERTISE",
    summary: "addresses other than its own that a worker's --advertise may name",
  },
  {
    flag: "cors",
    value: "<origin>",
    env: "LLMNODE_CORS",
    summary: "let web pages of this origin call the API, * for any (off unless given)",
  },
  {
    flag: "max-requests-per-address",
    value: "<n>",
    env: "LLMNODE_MAX_REQUESTS_PER_ADDRESS",
    default: "4096",
    summary: "requests that one client address may have running",
  },
  {
    flag: "routing",
    value: "<policy>",
    repeat: true,
    env: "LLMNODE_ROUTING",
    defaultNote: "auto",
    summary: `how replicas are picked, or <model>=<policy>: ${POLICIES.join(", ")}`,
  },
  {
    flag: "routing-tuning",
    value: "<key=value,...>",
    env: "LLMNODE_ROUTING_TUNING",
    defaultNote: "g=0.1,k=8",
    summary: "how --routing auto weighs load (g, in seconds) and prompt caches (k)",
  },
  {
    flag: "queue-size",
    value: "<n>",
    env: "LLMNODE_QUEUE_SIZE",
    default: "256",
    summary: "requests that may wait for a replica of one model",
  },
  {
    flag: "queue-timeout",
    value: "<duration>",
    env: "LLMNODE_QUEUE_TIMEOUT",
    default: "60s",
    summary: "how long they wait; for an engine that starts, this long after its usual time",
  },
  {
    flag: "settle-time",
    value: "<duration>",
    env: "LLMNODE_SETTLE_TIME",
    default: "30s",
    summary: "how long after the start a request for an unknown model waits for its worker",
  },
  {
    flag: "resume",
    value: "<auto|off>",
    env: "LLMNODE_RESUME",
    default: "auto",
    summary: "let a stream whose engine dies go on elsewhere, where that is known to be right",
  },
  {
    flag: "shutdown-delay",
    value: "<duration>",
    env: "LLMNODE_SHUTDOWN_DELAY",
    default: "0",
    summary: "when stopped, not ready but serving for this long; 10s behind a load balancer",
  },
  {
    flag: "no-info-headers",
    env: "LLMNODE_NO_INFO_HEADERS",
    summary: "answers without x-llmnode-worker, -attempts and -queue-ms",
  },
  {
    flag: "access",
    value: `<${ACCESS_MODES.join("|")}>`,
    env: "LLMNODE_ACCESS",
    default: "auto",
    summary:
      "who may use models: private networks until there is a key, always, keys only, or anyone",
  },
  {
    flag: "public",
    value: `<${PUBLIC_PARTS.join(",")}>`,
    repeat: true,
    env: "LLMNODE_PUBLIC",
    summary: "what is shown to everyone: the status with the page at /, or /metrics, or both",
  },
  {
    flag: "admin-listen",
    value: "<host:port>",
    env: "LLMNODE_ADMIN_LISTEN",
    summary: "answer commands, status and metrics there alone, not where clients connect",
  },
  {
    flag: "trusted-proxy",
    value: "<cidr>",
    repeat: true,
    env: "LLMNODE_TRUSTED_PROXY",
    summary: "proxies in front whose x-forwarded-for says where a client is",
  },
  {
    flag: "no-request-log",
    env: "LLMNODE_NO_REQUEST_LOG",
    summary: "no line per request on stdout",
  },
  {
    flag: "log-bodies",
    env: "LLMNODE_LOG_BODIES",
    summary: "put prompts and answers into the request log; they are left out otherwise",
  },
  {
    flag: "otlp",
    value: "<url>",
    env: "LLMNODE_OTLP",
    summary: "send traces there by OTLP/HTTP, such as http://127.0.0.1:4318",
  },
  ...DAEMON_OPTIONS,
];
