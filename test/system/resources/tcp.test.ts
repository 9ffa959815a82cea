/** TCP sockets through checkpoints and lives: test/programs/tcp. */
import { testPrograms } from "../../support/events.ts";

testPrograms("tcp", [
  { program: "tcp/loopback" },
  { program: "tcp/closed" },
  { program: "tcp/six" },
  { program: "tcp/options" },
]);
