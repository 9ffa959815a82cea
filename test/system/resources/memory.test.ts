/** Memory of all kinds through checkpoints and lives: test/programs/memory. */
import { testPrograms } from "../../support/events.ts";

testPrograms("memory", [
  { program: "memory/anonymous", idle: true },
  { program: "memory/heap", idle: true },
  { program: "memory/discard", idle: true },
  { program: "memory/advice", idle: true },
  { program: "memory/locked", idle: true },
  { program: "memory/moving", dumps: 10 },
  { program: "memory/fuzz", args: ["1"], dumps: 6 },
  { program: "memory/fuzz", args: ["2"], dumps: 6 },
  { program: "memory/fuzz", args: ["3"], dumps: 6 },
  { program: "memory/reserved", idle: true },
  { program: "memory/stack", idle: true },
  { program: "memory/file", idle: true },
  { program: "memory/shared" },
  { program: "memory/shared-exit" },
  { program: "memory/shared-past" },
]);
