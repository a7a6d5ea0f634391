import { TRANSPORTS } from "./cluster.ts";
import { ACCOUNTING } from "./accounting.ts";
import { register } from "./table.ts";

register(ACCOUNTING, TRANSPORTS);
