// System V message queues as full as the kernel lets them get: of large messages, of thousands of empty ones, with the limit lowered
// once they were full, with limits of the namespace that were lowered since.
#include "program.h"
#include <sys/msg.h>

struct message { long type; char text[65536]; };
static struct message m;

struct full { int id, limit, lowered; size_t piece; unsigned messages; };

static size_t pieceOf(struct full* one, unsigned i) { return one->piece == 3 ? i * 577 % 5000 : one->piece; }

static void setLimit(int id, int bytes) {
  struct msqid_ds d;
  check(!msgctl(id, IPC_STAT, &d));
  d.msg_qbytes = bytes;
  check(!msgctl(id, IPC_SET, &d));
}

static void fillUp(struct full* one) {
  for (one->messages = 0;; one->messages++) {
    size_t bytes = pieceOf(one, one->messages);
    m.type = 1 + one->messages % 9;
    memset(m.text, one->messages, bytes);
    if (msgsnd(one->id, &m, bytes, IPC_NOWAIT)) break;
  }
  equal(errno, EAGAIN);
}

// Of the IPC namespace.
static int openLimit(const char* name) {
  char path[64];
  snprintf(path, sizeof path, "/proc/sys/kernel/%s", name);
  int fd = open(path, O_RDWR);
  check(fd >= 0);
  return fd;
}

static void writeLimit(const char* name, int value) {
  char text[32];
  int fd = openLimit(name), n = snprintf(text, sizeof text, "%d", value);
  check(write(fd, text, n) == n);
  close(fd);
}

static int readLimit(const char* name) {
  char text[32] = {0};
  int fd = openLimit(name);
  check(read(fd, text, sizeof text - 1) > 0);
  close(fd);
  return atoi(text);
}

static void limits(int most) {
  writeLimit("msgmax", most);
  writeLimit("msgmnb", most);
}

int main(void) {
  static struct full all[] = {
      {.piece = 0}, {.piece = 1}, {.piece = 8192}, {.piece = 3}, {.piece = 3, .lowered = 5000}, {.piece = 0, .lowered = 10}, {.piece = 4000, .lowered = 1}, {.piece = 65000},
  };
  int count = sizeof all / sizeof *all;
  limits(1 << 17);
  for (int i = 0; i < count; i++) {
    all[i].id = msgget(IPC_PRIVATE, IPC_CREAT | 0600);
    check(all[i].id >= 0);
    all[i].limit = 1 << (15 - i % 3);
    setLimit(all[i].id, all[i].limit);
    if (all[i].piece == 65000) setLimit(all[i].id, all[i].limit = 1 << 17);
    if (all[i].piece == 0) setLimit(all[i].id, all[i].limit = 3000);
    fillUp(&all[i]);
    check(all[i].messages > 0);
    if (all[i].lowered) setLimit(all[i].id, all[i].lowered);
  }
  limits(8000);
  begin();
  for (;;) {
    next();
    equal(readLimit("msgmax"), 8000);
    equal(readLimit("msgmnb"), 8000);
    limits(1 << 17);
    for (int i = 0; i < count; i++) {
      struct full* one = &all[i];
      struct msqid_ds d;
      check(!msgctl(one->id, IPC_STAT, &d));
      equal(d.msg_qnum, one->messages);
      equal(d.msg_qbytes, one->lowered ? one->lowered : one->limit);
      m.type = 1;
      equal(msgsnd(one->id, &m, pieceOf(one, one->messages), IPC_NOWAIT), -1);
      equal(errno, EAGAIN);
      for (unsigned n = 0; n < one->messages; n++) {
        equal(msgrcv(one->id, &m, sizeof m.text, 0, IPC_NOWAIT), pieceOf(one, n));
        equal(m.type, 1 + n % 9);
        check(isByte(m.text, pieceOf(one, n), (unsigned char)n));
      }
      setLimit(one->id, one->limit);
      unsigned before = one->messages;
      fillUp(one);
      equal(one->messages, before);
      if (one->lowered) setLimit(one->id, one->lowered);
    }
    limits(8000);
    ok();
  }
}
