/** The command table: every command there is, in the order in which help lists them. */

import { aliasCommand } from "./resources/alias.ts";
import { auditCommand } from "./resources/audit.ts";
import { cancelCommand } from "./commands/cancel.ts";
import { completeCommand, completionCommand } from "./commands/completion.ts";
import { configCommand } from "./commands/config.ts";
import { doctorCommand } from "./commands/doctor.ts";
import { drainCommand } from "./commands/drain.ts";
import { eventsCommand } from "./commands/events.ts";
import { headCommand } from "./commands/head.ts";
import { forgetCommand } from "./commands/forget.ts";
import { helpCommand } from "./commands/help.ts";
import { joinCommand } from "./commands/join.ts";
import { joinTokenCommand } from "./resources/join-token.ts";
import { keyCommand } from "./resources/key.ts";
import { logsCommand } from "./commands/logs.ts";
import { modelsCommand } from "./commands/models.ts";
import { psCommand } from "./commands/ps.ts";
import { requestsCommand } from "./commands/requests.ts";
import { restartCommand } from "./commands/restart.ts";
import { simCommand } from "./commands/sim.ts";
import { statusCommand } from "./commands/status.ts";
import { topCommand } from "./commands/top.ts";
import { undrainCommand } from "./commands/undrain.ts";
import { usageCommand } from "./resources/usage.ts";
import { versionCommand } from "./commands/version.ts";
import { waitCommand } from "./commands/wait.ts";
import { workersCommand } from "./commands/workers.ts";
import type { CommandSpec } from "./base/spec.ts";

export function commandTable(): CommandSpec[] {
  const commands = [
    headCommand,
    joinCommand,
    statusCommand,
    topCommand,
    workersCommand,
    modelsCommand,
    psCommand,
    requestsCommand,
    cancelCommand,
    eventsCommand,
    logsCommand,
    aliasCommand,
    keyCommand,
    usageCommand,
    auditCommand,
    joinTokenCommand,
    drainCommand,
    undrainCommand,
    restartCommand,
    forgetCommand,
    waitCommand,
    doctorCommand,
    simCommand,
    completionCommand,
    versionCommand,
  ];
  const all = [...commands, configCommand(commands)];
  const known = [...all, helpCommand(all)];
  return [...known, completeCommand(known)];
}
