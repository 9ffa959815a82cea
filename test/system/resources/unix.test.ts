/** Unix sockets through checkpoints and lives: test/programs/unix. */
import { testPrograms } from "../../support/events.ts";

testPrograms("unix sockets", [
  { program: "unix/pairs", idle: true },
  { program: "unix/flight", idle: true },
  { program: "unix/listening", idle: true },
  { program: "unix/unheard", idle: true },
  { program: "unix/nested" },
  { program: "unix/datagrams", idle: true },
  { program: "unix/options", idle: true },
  { program: "unix/full", idle: true },
  { program: "unix/empty", idle: true },
]);
