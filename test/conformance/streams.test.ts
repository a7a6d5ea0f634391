import { TRANSPORTS } from "./cluster.ts";
import { STREAMS } from "./streams.ts";
import { register } from "./table.ts";

register(STREAMS, TRANSPORTS);
