/** The command table: every command there is, in the order in which help lists them. */

import { doctorCommand } from "./commands/doctor.ts";
import { headCommand } from "./commands/head.ts";
import { forgetCommand } from "./commands/forget.ts";
import { helpCommand } from "./commands/help.ts";
import { joinCommand } from "./commands/join.ts";
import { joinTokenCommand } from "./commands/join-token.ts";
import { logsCommand } from "./commands/logs.ts";
import { simCommand } from "./commands/sim.ts";
import { statusCommand } from "./commands/status.ts";
import { versionCommand } from "./commands/version.ts";
import type { CommandSpec } from "./spec.ts";

export function commandTable(): CommandSpec[] {
  const commands = [
    headCommand,
    joinCommand,
    statusCommand,
    logsCommand,
    joinTokenCommand,
    forgetCommand,
    doctorCommand,
    simCommand,
    versionCommand,
  ];
  return [...commands, helpCommand(commands)];
}
