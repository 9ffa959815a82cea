// What every test program shares. A program sets its resource up, calls begin(), then checks itself whenever next() returns
// (SIGUSR1) and says so with ok(). SIGUSR1 is blocked in all threads: it never interrupts what is under test.
#ifndef PROGRAM_H
#define PROGRAM_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

__attribute__((unused, format(printf, 1, 2))) static void say(const char* format, ...) {
  char line[512];
  va_list args;
  va_start(args, format);
  int n = vsnprintf(line, sizeof line - 1, format, args);
  va_end(args);
  if (n > (int)sizeof line - 2) n = sizeof line - 2;
  line[n++] = '\n';
  if (write(1, line, n) != n) _exit(3);
}

// Says what is wrong and ends the program.
#define fail(format, ...)                                                        \
  do {                                                                           \
    int e_ = errno;                                                              \
    say("wrong, line %d: " format " (errno %d)", __LINE__, ##__VA_ARGS__, e_);   \
    _exit(1);                                                                    \
  } while (0)

#define check(condition)                          \
  do {                                            \
    if (!(condition)) fail("%s", #condition);     \
  } while (0)

#define equal(a, b)                                                                         \
  do {                                                                                      \
    long long a_ = (long long)(a), b_ = (long long)(b);                                     \
    if (a_ != b_) fail("%s is %lld, not %s = %lld", #a, a_, #b, b_);                        \
  } while (0)

__attribute__((constructor)) static void blockCheckSignal(void) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  sigprocmask(SIG_BLOCK, &set, NULL);
}

__attribute__((unused)) static void begin(void) { say("ready"); }
__attribute__((unused)) static void ok(void) { say("ok"); }

// Waits until the next check is asked for.
__attribute__((unused)) static void next(void) {
  sigset_t set;
  int signal;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  if (sigwait(&set, &signal)) _exit(4);
}

// Whether a check is asked for; does not wait.
__attribute__((unused)) static int asked(void) {
  sigset_t set;
  struct timespec none = {0, 0};
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  return sigtimedwait(&set, NULL, &none) == SIGUSR1;
}

__attribute__((unused)) static uint64_t nowMs(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000ull + t.tv_nsec / 1000000;
}

__attribute__((unused)) static void sleepMs(long ms) {
  struct timespec t = {ms / 1000, ms % 1000 * 1000000};
  while (nanosleep(&t, &t) && errno == EINTR) continue;
}

// A small generator of its own: the same numbers in every life.
__attribute__((unused)) static uint64_t nextRandom(uint64_t* state) {
  uint64_t x = *state;
  x ^= x << 13;
  x ^= x >> 7;
  x ^= x << 17;
  return *state = x;
}

// Fills and verifies memory with words that depend on their address and a seed.
__attribute__((unused)) static void fill(void* at, size_t bytes, uint64_t seed) {
  uint64_t* w = at;
  for (size_t i = 0; i < bytes / 8; i++) w[i] = seed * 0x9e3779b97f4a7c15ull + i;
}
__attribute__((unused)) static int isFilled(const void* at, size_t bytes, uint64_t seed) {
  const uint64_t* w = at;
  for (size_t i = 0; i < bytes / 8; i++)
    if (w[i] != seed * 0x9e3779b97f4a7c15ull + i) return 0;
  return 1;
}
__attribute__((unused)) static int isByte(const void* at, size_t bytes, int value) {
  const unsigned char* b = at;
  for (size_t i = 0; i < bytes; i++)
    if (b[i] != value) return 0;
  return 1;
}
#endif
