// Shared memory with content that no living process has touched: written by children that ended, even before anybody watched,
// and by a child that has given its mapping up since.
#include "program.h"

#define BYTES (64 * 4096)

struct turns { volatile uint32_t asked, done; };

static void childFills(char* at, uint64_t seed) {
  pid_t child = fork();
  if (child == 0) {
    fill(at, BYTES, seed);
    _exit(0);
  }
  check(waitpid(child, NULL, 0) == child);
}

int main(void) {
  char* before = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  char* later = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  char* given = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  struct turns* turns = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  childFills(before, 1);
  childFills(given, 0);
  pid_t helper = fork();
  if (helper == 0) {
    while (!turns->asked) sleepMs(1);
    fill(given, BYTES, 1);
    munmap(given, BYTES);
    turns->done = 1;
    for (;;) {
      if (getppid() == 1) _exit(0);
      sleepMs(1);
    }
  }
  begin();
  for (int round = 1;; round++) {
    next();
    // Looks into them as late as possible: a look makes the pages the looker's own.
    if (round >= 5) check(isFilled(before, BYTES, 1));
    if (round >= 6) check(isFilled(given, BYTES, 1));
    if (round >= 7) check(isFilled(later, BYTES, round - 1));
    childFills(later, round);
    turns->asked = 1;
    for (int i = 0; !turns->done; i++) {
      if (i > 1000) fail("the child does not answer");
      sleepMs(1);
    }
    ok();
  }
}
