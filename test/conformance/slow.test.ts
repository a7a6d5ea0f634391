import { TRANSPORTS } from "./cluster.ts";
import { SLOW } from "./slow.ts";
import { register } from "./table.ts";

register(SLOW, TRANSPORTS);
