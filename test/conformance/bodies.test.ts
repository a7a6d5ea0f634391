import { BODIES } from "./bodies.ts";
import { TRANSPORTS } from "./cluster.ts";
import { register } from "./table.ts";

register(BODIES, TRANSPORTS);
