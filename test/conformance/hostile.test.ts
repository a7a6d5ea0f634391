import { TRANSPORTS } from "./cluster.ts";
import { HOSTILE } from "./hostile.ts";
import { register } from "./table.ts";

register(HOSTILE, TRANSPORTS);
