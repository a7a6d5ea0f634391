import { CLIENTS } from "./clients.ts";
import { TRANSPORTS } from "./cluster.ts";
import { register } from "./table.ts";

register(CLIENTS, TRANSPORTS);
