import { TRANSPORTS } from "./cluster.ts";
import { REQUESTS } from "./requests.ts";
import { register } from "./table.ts";

register(REQUESTS, TRANSPORTS);
