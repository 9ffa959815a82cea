// POSIX message queues as full as they get: more and larger messages than by default, more in all than a process may have by default,
// limits lowered once they were full, many messages of one priority and of many.
#include "program.h"
#include <mqueue.h>
#include <sys/resource.h>

static char m[1 << 20];

struct full { mqd_t queue; int messages, bytes, priorities; };

static void writeLimit(const char* name, int value) {
  char path[64], text[32];
  snprintf(path, sizeof path, "/proc/sys/fs/mqueue/%s", name);
  int fd = open(path, O_WRONLY), n = snprintf(text, sizeof text, "%d", value);
  check(fd >= 0 && write(fd, text, n) == n);
  close(fd);
}

static int sizeOf(struct full* one, int i) { return i % 3 == 0 ? one->bytes : i * 577 % (one->bytes + 1); }

static void fillUp(struct full* one) {
  for (int i = 0; i < one->messages; i++) {
    memset(m, i, sizeOf(one, i));
    check(!mq_send(one->queue, m, sizeOf(one, i), i % one->priorities));
  }
}

int main(void) {
  struct full all[] = {{.messages = 1, .bytes = 1, .priorities = 1}, {.messages = 10, .bytes = 8192, .priorities = 10}, {.messages = 800, .bytes = 60, .priorities = 1}, {.messages = 100, .bytes = 500, .priorities = 100}, {.messages = 4, .bytes = 1 << 20, .priorities = 2}};
  int count = sizeof all / sizeof *all;
  struct rlimit most = {RLIM_INFINITY, RLIM_INFINITY};
  // Where nobody may have more than there is for all by default, there is no such queue.
  if (setrlimit(RLIMIT_MSGQUEUE, &most)) count--;
  writeLimit("msg_max", 5000), writeLimit("msgsize_max", 1 << 20);
  for (int i = 0; i < count; i++) {
    char name[32];
    snprintf(name, sizeof name, "/full%d", i);
    struct mq_attr a = {.mq_maxmsg = all[i].messages, .mq_msgsize = all[i].bytes};
    all[i].queue = mq_open(name, O_CREAT | O_EXCL | O_RDWR | O_NONBLOCK, 0600, &a);
    if (all[i].queue < 0) fail("mq_open %s", name);
    fillUp(&all[i]);
  }
  // Those that are there may be what nobody could make any more.
  most = (struct rlimit){1000, 1000};
  check(!setrlimit(RLIMIT_MSGQUEUE, &most));
  writeLimit("msg_max", 5), writeLimit("msgsize_max", 128);
  begin();
  for (;;) {
    next();
    for (int i = 0; i < count; i++) {
      struct full* one = &all[i];
      struct mq_attr a;
      check(!mq_getattr(one->queue, &a));
      equal(a.mq_maxmsg, one->messages);
      equal(a.mq_msgsize, one->bytes);
      equal(a.mq_curmsgs, one->messages);
      equal(mq_send(one->queue, m, 1, 0), -1);
      equal(errno, EAGAIN);
      for (int p = one->priorities - 1; p >= 0; p--)
        for (int n = p; n < one->messages; n += one->priorities) {
          unsigned priority;
          equal(mq_receive(one->queue, m, sizeof m, &priority), sizeOf(one, n));
          equal(priority, p);
          check(isByte(m, sizeOf(one, n), (unsigned char)n));
        }
      fillUp(one);
    }
    ok();
  }
}
