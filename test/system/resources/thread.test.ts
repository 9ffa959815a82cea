/** Threads, their registers and interrupted calls through checkpoints and lives: test/programs/thread. */
import { testPrograms } from "../../support/events.ts";

testPrograms("threads", [
  { program: "thread/many", idle: true },
  { program: "thread/moving", dumps: 10 },
  { program: "thread/registers", dumps: 10 },
  { program: "thread/own", idle: true },
  { program: "thread/settings", idle: true },
  { program: "thread/robust" },
  { program: "thread/rseq" },
  { program: "thread/vectors" },
  { program: "thread/tiles" },
  { program: "thread/interrupted" },
]);
