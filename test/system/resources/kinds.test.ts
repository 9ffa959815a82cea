/** More kinds of descriptors through checkpoints and lives: test/programs/{nameless,signalfd,pidfd,fifo,…}. */
import { testPrograms } from "../../support/events.ts";

testPrograms("more kinds", [
  { program: "nameless/memfd", idle: true },
  { program: "nameless/deleted", idle: true },
  { program: "nameless/large", idle: true },
  { program: "nameless/mixed", idle: true },
  { program: "signalfd/masks", idle: true },
  { program: "pidfd/handles", idle: true },
  { program: "fifo/named" },
  { program: "inotify/watches", idle: true },
  { program: "udp/datagrams", idle: true },
  { program: "netlink/route", idle: true },
  { program: "pty/terminal", idle: true },
  { program: "pty/session" },
  { program: "udp/six", idle: true },
  { program: "udp/groups", idle: true },
  { program: "udp/options", idle: true },
  { program: "epoll/nested" },
  { program: "pipe/packets", idle: true },
  { program: "fifo/edges" },
  { program: "lock/files" },
  { program: "epoll/orphans", idle: true },
  { program: "pipe/full", idle: true },
  { program: "fifo/full", idle: true },
  { program: "udp/full", idle: true },
  { program: "pty/full", idle: true },
]);
