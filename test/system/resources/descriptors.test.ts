/** Kinds of descriptors through checkpoints and lives: test/programs/{pipe,epoll,eventfd,timerfd,file}. */
import { testPrograms } from "../../support/events.ts";

testPrograms("descriptors", [
  { program: "pipe/content", idle: true },
  { program: "pipe/moving", dumps: 10 },
  { program: "epoll/watch", idle: true },
  { program: "eventfd/counters", idle: true },
  { program: "timerfd/timers" },
  { program: "file/positions", idle: true },
]);
