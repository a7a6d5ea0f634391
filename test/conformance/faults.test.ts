import { TRANSPORTS } from "./cluster.ts";
import { FAULTS } from "./faults.ts";
import { register } from "./table.ts";

register(FAULTS, TRANSPORTS);
