import { TRANSPORTS } from "./cluster.ts";
import { LIFE } from "./life.ts";
import { register } from "./table.ts";

register(LIFE, TRANSPORTS);
