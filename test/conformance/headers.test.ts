import { TRANSPORTS } from "./cluster.ts";
import { HEADERS } from "./headers.ts";
import { register } from "./table.ts";

register(HEADERS, TRANSPORTS);
