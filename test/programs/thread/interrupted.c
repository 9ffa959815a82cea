// Threads inside blocking calls at the event: each must go on waiting and then end as if nothing had been.
#include "program.h"
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/select.h>

// Longer than anybody lets it wait for the next check.
#define LONG_S 3600

static int pipes[6][2], epoll, events;
static volatile int word, answers, round_;

static void add(void) { __sync_fetch_and_add(&answers, 1); }

static void* reads(void* argument) {
  for (char c;; add()) equal(read(pipes[0][0], &c, 1), 1);
}
static void* polls(void* argument) {
  for (char c;; add()) {
    struct pollfd p = {pipes[1][0], POLLIN, 0};
    equal(poll(&p, 1, LONG_S * 1000), 1);
    equal(read(p.fd, &c, 1), 1);
  }
}
static void* pollsForever(void* argument) {
  for (char c;; add()) {
    struct pollfd p = {pipes[2][0], POLLIN, 0};
    equal(ppoll(&p, 1, NULL, NULL), 1);
    equal(read(p.fd, &c, 1), 1);
  }
}
static void* selects(void* argument) {
  for (char c;; add()) {
    fd_set set;
    FD_ZERO(&set);
    FD_SET(pipes[3][0], &set);
    struct timeval t = {LONG_S, 0};
    equal(select(pipes[3][0] + 1, &set, NULL, NULL, &t), 1);
    equal(read(pipes[3][0], &c, 1), 1);
  }
}
static void* epolls(void* argument) {
  for (char c;; add()) {
    struct epoll_event e;
    equal(epoll_wait(epoll, &e, 1, -1), 1);
    equal(read(pipes[4][0], &c, 1), 1);
  }
}
static void* futexes(void* argument) {
  for (int seen = 0;; add()) {
    while (word == seen)
      if (syscall(SYS_futex, &word, FUTEX_WAIT, seen, NULL, NULL, 0) && errno != EAGAIN) fail("futex");
    seen = word;
  }
}
static void* futexesTimed(void* argument) {
  for (int seen = 0;; add()) {
    struct timespec t = {LONG_S, 0};
    while (word == seen)
      if (syscall(SYS_futex, &word, FUTEX_WAIT, seen, &t, NULL, 0) && errno != EAGAIN) fail("futex with timeout");
    seen = word;
  }
}
static void* eventReads(void* argument) {
  for (uint64_t n;; add()) equal(read(events, &n, 8), 8);
}
static void* sleeps(void* argument) {
  for (int seen = 0;; add()) {
    while (round_ == seen) {
      struct timespec t = {0, 20000000};
      equal(nanosleep(&t, NULL), 0);
      check(!clock_nanosleep(CLOCK_MONOTONIC, 0, &t, NULL));
    }
    seen = round_;
  }
}
static void* signals(void* argument) {
  sigset_t set;
  siginfo_t info;
  sigemptyset(&set);
  sigaddset(&set, SIGRTMIN + 3);
  for (;; add()) equal(sigwaitinfo(&set, &info), SIGRTMIN + 3);
}

int main(void) {
  void* (*bodies[])(void*) = {reads, polls, pollsForever, selects, epolls, futexes, futexesTimed, eventReads, sleeps, signals};
  int count = sizeof bodies / sizeof *bodies;
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGRTMIN + 3);
  pthread_sigmask(SIG_BLOCK, &set, NULL);
  for (int i = 0; i < 6; i++) check(!pipe(pipes[i]));
  epoll = epoll_create1(0);
  events = eventfd(0, 0);
  struct epoll_event e = {EPOLLIN, {0}};
  check(!epoll_ctl(epoll, EPOLL_CTL_ADD, pipes[4][0], &e));
  pthread_t thread;
  for (int i = 0; i < count; i++) check(!pthread_create(&thread, NULL, bodies[i], NULL));
  sleepMs(30);
  begin();
  for (;;) {
    next();
    if (answers != round_ * count) fail("%d answers before they were asked for, not %d", answers, round_ * count);
    round_++;
    for (int i = 0; i < 5; i++) check(write(pipes[i][1], "x", 1) == 1);
    uint64_t one = 1;
    check(write(events, &one, 8) == 8);
    word++;
    syscall(SYS_futex, &word, FUTEX_WAKE, 100, NULL, NULL, 0);
    kill(getpid(), SIGRTMIN + 3);
    uint64_t until = nowMs() + 20000;
    while (answers != round_ * count && nowMs() < until) sleepMs(2);
    if (answers != round_ * count) fail("%d answers of %d", answers, round_ * count);
    ok();
  }
}
