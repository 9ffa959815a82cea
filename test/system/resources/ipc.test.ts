/** System V objects through checkpoints and lives: test/programs/shm, semaphore, msgqueue. */
import { testPrograms } from "../../support/events.ts";

testPrograms("System V", [
  { program: "shm/segments" },
  { program: "shm/moving", dumps: 6 },
  { program: "semaphore/sets", idle: true },
  { program: "semaphore/undo" },
  { program: "msgqueue/queues", idle: true },
  { program: "mqueue/queues", idle: true },
  { program: "msgqueue/full", idle: true },
  { program: "mqueue/full", idle: true },
]);
