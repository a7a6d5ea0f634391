import { TRANSPORTS } from "./cluster.ts";
import { ROUTE_LINES } from "./routes.ts";
import { register } from "./table.ts";

register(ROUTE_LINES, TRANSPORTS);
