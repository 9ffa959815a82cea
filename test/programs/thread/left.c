// Calls with a time limit that a clone goes on with: they end when they would have ended, not after their whole limit once more.
// `left LIMIT_MS SLACK_MS`: how long they are, and how late they may be.
#include "program.h"
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/time.h>

static long limitMs = 1000, slackMs = 20000;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

static struct timespec limit;

static long sleeps(void) { return nanosleep(&limit, NULL); }
static long sleepsByClock(void) { return -clock_nanosleep(CLOCK_MONOTONIC, 0, &limit, NULL); }
static long polls(void) { return poll(NULL, 0, limitMs); }
static long futexes(void) {
  static int word;
  long r = syscall(SYS_futex, &word, FUTEX_WAIT, 0, &limit, NULL, 0);
  return r == -1 && errno == ETIMEDOUT ? 0 : 1;
}
static long selects(void) {
  struct timeval t = {limitMs / 1000, limitMs % 1000 * 1000};
  return select(0, NULL, NULL, NULL, &t);
}
static long epolls(void) {
  struct epoll_event e;
  return epoll_wait(epoll_create1(0), &e, 1, limitMs);
}
static long receives(void) {
  int pair[2];
  char c;
  struct timeval t = {limitMs / 1000, limitMs % 1000 * 1000};
  check(!socketpair(AF_UNIX, SOCK_STREAM, 0, pair) && !setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t));
  return recv(pair[0], &c, 1, 0) == -1 && errno == EAGAIN ? 0 : 1;
}
static long (*calls[])(void) = {sleeps, sleepsByClock, polls, futexes, selects, epolls, receives};
enum { COUNT = sizeof calls / sizeof *calls };

static void* waits(void* argument) {
  long index = (long)argument;
  double begun = now();
  long r = calls[index]();
  double took = now() - begun;
  if (r) fail("call %ld ended with %ld after %.3f ms", index, r, took);
  if (took < limitMs - 0.01) fail("call %ld ended after %.3f ms", index, took);
  if (took > limitMs + slackMs) fail("call %ld ended after %.3f ms only", index, took);
  return NULL;
}

int main(int argc, char** argv) {
  if (argc > 2) limitMs = atol(argv[1]), slackMs = atol(argv[2]);
  limit = (struct timespec){limitMs / 1000, limitMs % 1000 * 1000000};
  pthread_t threads[COUNT];
  for (int first = 1;; first = 0) {
    for (long i = 0; i < COUNT; i++) check(!pthread_create(&threads[i], NULL, waits, (void*)i));
    if (first) begin();
    else ok();
    next();
    for (int i = 0; i < COUNT; i++) check(!pthread_join(threads[i], NULL));
  }
}
