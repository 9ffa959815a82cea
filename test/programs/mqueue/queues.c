// POSIX message queues: priorities and order, sizes over several pages, attributes, one that nobody has open, one without a
// name beside another of that name, several users; who is told of a message, and with what value.
#include "program.h"
#include <mqueue.h>

static char m[70000];

static mqd_t make(const char* name, int flags, int messages, int bytes) {
  struct mq_attr a = {.mq_maxmsg = messages, .mq_msgsize = bytes};
  mqd_t q = mq_open(name, O_CREAT | O_EXCL | flags, 0640, &a);
  if (q < 0) fail("mq_open %s", name);
  return q;
}

static void put(mqd_t q, int size, int seed, unsigned priority) {
  memset(m, seed, size);
  check(!mq_send(q, m, size, priority));
}

static void get(mqd_t q, int size, int seed, unsigned priority) {
  unsigned got;
  equal(mq_receive(q, m, sizeof m, &got), size);
  equal(got, priority);
  check(isByte(m, size, seed));
}

static void wish(mqd_t q, int value) {
  struct sigevent e = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 3};
  e.sigev_value.sival_ptr = (void*)(0x123456789aull + value);
  check(!mq_notify(q, &e));
}

int main(void) {
  sigset_t told;
  sigemptyset(&told), sigaddset(&told, SIGRTMIN + 3);
  sigprocmask(SIG_BLOCK, &told, NULL);
  mqd_t q = make("/order", O_RDWR | O_NONBLOCK, 9, 8192), reader = mq_open("/order", O_RDONLY);
  check(reader >= 0 && fcntl(reader, F_SETFD, 0) == 0);
  mq_close(make("/kept", O_RDWR, 3, 100));
  mqd_t kept = mq_open("/kept", O_WRONLY);
  put(kept, 100, 5, 7), put(kept, 0, 0, 0), mq_close(kept);
  mqd_t gone = make("/twice", O_RDWR, 2, 50);
  put(gone, 50, 1, 1);
  check(!mq_unlink("/twice"));
  mqd_t twice = make("/twice", O_RDWR, 4, 60);
  put(twice, 60, 2, 2);
  mqd_t calls = make("/calls", O_RDWR, 2, 8), answers = make("/answers", O_RDWR, 2, 8);
  mqd_t empty = make("/empty", O_RDWR, 2, 8);
  wish(empty, 0);
  if (fork() == 0)
    for (unsigned priority;;) {
      if (mq_receive(calls, m, sizeof m, &priority) != 8) _exit(1);
      m[0]++;
      if (mq_send(answers, m, 8, priority + 1)) _exit(2);
    }
  put(q, 10, 1, 3), put(q, 8192, 2, 3), put(q, 5000, 3, 30000), put(q, 4048, 4, 0), put(q, 4049, 5, 3);
  begin();
  for (int round = 0;; round++) {
    next();
    struct mq_attr a;
    check(!mq_getattr(q, &a));
    equal(a.mq_maxmsg, 9);
    equal(a.mq_msgsize, 8192);
    equal(a.mq_curmsgs, 5);
    equal(a.mq_flags, O_NONBLOCK);
    check(!mq_getattr(reader, &a) && a.mq_flags == 0);
    struct stat s;
    check(!fstat(q, &s));
    equal(s.st_mode & 0777, 0640);
    get(reader, 5000, 3, 30000), get(q, 10, 1, 3), get(reader, 8192, 2, 3), get(q, 4049, 5, 3), get(q, 4048, 4, 0);
    equal(mq_receive(q, m, sizeof m, NULL), -1);
    equal(errno, EAGAIN);
    put(q, 10, 1, 3), put(q, 8192, 2, 3), put(q, 5000, 3, 30000), put(q, 4048, 4, 0), put(q, 4049, 5, 3);
    kept = mq_open("/kept", O_RDWR);
    check(kept >= 0);
    get(kept, 100, 5, 7), get(kept, 0, 0, 0), put(kept, 100, 5, 7), put(kept, 0, 0, 0), mq_close(kept);
    get(gone, 50, 1, 1), put(gone, 50, 1, 1);
    get(twice, 60, 2, 2), put(twice, 60, 2, 2);
    mqd_t named = mq_open("/twice", O_RDONLY);
    check(!mq_getattr(named, &a) && a.mq_msgsize == 60 && !mq_close(named));
    check(!fstat(gone, &s) && s.st_nlink == 0);
    put(calls, 8, round % 100, 4);
    unsigned priority;
    equal(mq_receive(answers, m, sizeof m, &priority), 8);
    equal(priority, 5);
    equal(m[0], round % 100 + 1);
    // Told once, with the value of the wish; then there is none any more.
    siginfo_t info;
    struct timespec none = {0, 0};
    equal(sigtimedwait(&told, &info, &none), -1);
    put(empty, 8, 1, 0);
    equal(sigtimedwait(&told, &info, &none), SIGRTMIN + 3);
    check(info.si_code == SI_MESGQ && info.si_value.sival_ptr == (void*)(0x123456789aull + round));
    get(empty, 8, 1, 0);
    wish(empty, round + 1);
    ok();
  }
}
