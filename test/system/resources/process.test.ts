/** Processes, signals, timers and identity through checkpoints and lives: test/programs/process. */
import { testPrograms } from "../../support/events.ts";

testPrograms("processes", [
  { program: "process/signals", idle: true },
  { program: "process/pending", idle: true },
  { program: "process/itimer" },
  { program: "process/tree" },
  { program: "process/moving", dumps: 10 },
  { program: "process/exec" },
  { program: "process/upgraded", idle: true },
  { program: "process/identity", idle: true },
  { program: "process/scheduling" },
  { program: "process/posix-timers" },
  { program: "process/filters" },
  { program: "process/jobs" },
  { program: "process/places" },
  { program: "time/clocks" },
  { program: "process/privileges", idle: true },
  { program: "process/areas" },
  { program: "process/memory-wide", idle: true },
  { program: "process/stopped" },
]);
