// Calls with a time limit that signal(7) lets end with EINTR after a stop: each must wait for its whole time, and no longer, and end as if
// nothing had been. One also has an event now and then.
#include "program.h"
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/time.h>

#define LIMIT_MS 120
// A clone's life may begin while it waits, on a busy machine.
#define SLACK_MS 20000

static volatile int rounds[16];
static int count;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

// `expected`: the result, or −errno.
static void waited(int index, double begun, long result, long expected) {
  long got = result < 0 ? -errno : result;
  double ms = now() - begun;
  if (got != expected) fail("call %d ended with %ld after %.1f ms, not %ld", index, got, ms, expected);
  if (ms < LIMIT_MS - 0.01) fail("call %d ended after %.3f ms", index, ms);
  if (ms > LIMIT_MS + SLACK_MS) fail("call %d ended after %.1f ms", index, ms);
  rounds[index]++;
}

static struct timespec limit = {0, LIMIT_MS * 1000000l};

static void* epolls(void* index) {
  int epoll = epoll_create1(0);
  for (struct epoll_event e;;) {
    double begun = now();
    long r = epoll_wait(epoll, &e, 1, LIMIT_MS);
    waited((long)index, begun, r, 0);
  }
  return NULL;
}
static void* epollsFinely(void* index) {
  int epoll = epoll_create1(0);
  for (struct epoll_event e;;) {
    double begun = now();
    long r = syscall(441, epoll, &e, 1, &limit, NULL, 8);
    waited((long)index, begun, r, 0);
  }
  return NULL;
}
static void* signals(void* index) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGRTMIN + 3);
  for (;;) {
    double begun = now();
    long r = sigtimedwait(&set, NULL, &limit);
    waited((long)index, begun, r, -EAGAIN);
  }
  return NULL;
}
static void* semaphores(void* index) {
  int set = semget(IPC_PRIVATE, 1, 0600);
  check(set >= 0);
  for (struct sembuf take = {0, -1, 0};;) {
    double begun = now();
    long r = semtimedop(set, &take, 1, &limit);
    waited((long)index, begun, r, -EAGAIN);
  }
  return NULL;
}
static void* receives(void* index) {
  int pair[2];
  struct timeval time = {0, LIMIT_MS * 1000};
  check(!socketpair(AF_UNIX, SOCK_STREAM, 0, pair) && !setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time));
  for (char c;;) {
    double begun = now();
    long r = (rounds[(long)index] & 1) ? recv(pair[0], &c, 1, 0) : read(pair[0], &c, 1);
    waited((long)index, begun, r, -EAGAIN);
  }
  return NULL;
}
// Events come at once, soon, and not at all: no call may end before its time without one, or be ended for one that it had.
static void* busy(void* index) {
  static int wake[2];
  check(!pipe(wake));
  int epoll = epoll_create1(0);
  struct epoll_event e = {EPOLLIN, {0}};
  check(!epoll_ctl(epoll, EPOLL_CTL_ADD, wake[0], &e));
  uint64_t random = 9;
  for (char c;;) {
    int some = nextRandom(&random) % 4;
    for (int i = 0; i < some; i++) check(write(wake[1], "x", 1) == 1);
    for (int i = 0; i < some; i++) {
      equal(epoll_wait(epoll, &e, 1, LIMIT_MS), 1);
      check(read(wake[0], &c, 1) == 1);
    }
    double begun = now();
    long r = epoll_wait(epoll, &e, 1, LIMIT_MS);
    waited((long)index, begun, r, 0);
  }
  return NULL;
}

int main(void) {
  void* (*bodies[])(void*) = {epolls, epollsFinely, signals, semaphores, receives, busy};
  count = sizeof bodies / sizeof *bodies;
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGRTMIN + 3);
  pthread_sigmask(SIG_BLOCK, &set, NULL);
  pthread_t thread;
  for (long i = 0; i < count; i++) check(!pthread_create(&thread, NULL, bodies[i], (void*)i));
  begin();
  for (;;) {
    next();
    int before[16];
    for (int i = 0; i < count; i++) before[i] = rounds[i];
    for (int i = 0; i < count; i++)
      for (int n = 0; rounds[i] < before[i] + 2; n++) {
        if (n > 20000) fail("call %d does not end", i);
        sleepMs(1);
      }
    ok();
  }
}
