// Guard areas (MADV_GUARD_INSTALL): over untouched pages, over content, which is lost then, at the end of an area, in the
// middle; moved by mremap, handed on by fork, put up and taken down again from round to round. A touch is a SIGSEGV, nothing
// else is.
#include "guard.h"

#define PAGE 4096ul
#define PAGES 32

// Which of the pages have guards, one bit each.
static uint32_t guardsOf(char* at) {
  uint32_t bits = 0;
  for (int i = 0; i < PAGES; i++) bits |= (uint32_t)isGuard(at + i * PAGE) << i;
  return bits;
}

static void guard(char* at, int first, int count) { check(!madvise(at + first * PAGE, count * PAGE, MADV_GUARD_INSTALL)); }
static void unguard(char* at, int first, int count) { check(!madvise(at + first * PAGE, count * PAGE, MADV_GUARD_REMOVE)); }
static uint32_t bits(int first, int count) { return ((1u << count) - 1) << first; }

static char* area(void) {
  char* at = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  check(at != MAP_FAILED);
  return at;
}

static void inChild(char* at, uint32_t wanted) {
  pid_t pid = fork();
  if (pid == 0) _exit(guardsOf(at) == wanted ? 0 : 1);
  int status;
  check(waitpid(pid, &status, 0) == pid);
  equal(status, 0);
}

int main(void) {
  expectGuards();
  char* still = area();
  memset(still, 1, PAGES * PAGE);
  guard(still, 0, 1), guard(still, 7, 3), guard(still, PAGES - 1, 1);
  const uint32_t asSet = bits(0, 1) | bits(7, 3) | bits(PAGES - 1, 1);
  char* untouched = area();
  guard(untouched, 4, 2);
  char* file = mmap(NULL, PAGE * 2, PROT_READ | PROT_WRITE, MAP_PRIVATE, open("/proc/self/exe", O_RDONLY), 0);
  check(file != MAP_FAILED);
  char first = *file;
  guard(file, 1, 1);
  char* shared = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  memset(shared, 9, 2 * PAGE);
  guard(shared, 2, 1);
  char* moving = area();
  memset(moving, 2, PAGES * PAGE);
  begin();
  uint32_t now = 0;
  for (int round = 0;; round++) {
    next();
    equal(guardsOf(still), asSet);
    check(isByte(still + PAGE, 6 * PAGE, 1) && isByte(still + 10 * PAGE, (PAGES - 11) * PAGE, 1));
    equal(guardsOf(untouched), bits(4, 2));
    check(isGuard(file + PAGE) && !isGuard(file) && *file == first);
    check(isGuard(shared + 2 * PAGE) && isByte(shared, 2 * PAGE, 9) && shared[3 * PAGE] == 0);
    equal(guardsOf(moving), now);
    // What was under a guard comes back as zeros.
    for (int i = 0; i < PAGES; i++)
      if (!(now & bits(i, 1))) check(moving[i * PAGE] == 2 || moving[i * PAGE] == 0);
    inChild(moving, now);
    int at = round * 5 % (PAGES - 4);
    if (now) {
      unguard(moving, 0, PAGES);
      for (int i = 0; i < PAGES; i++)
        if (now & bits(i, 1)) check(isByte(moving + i * PAGE, PAGE, 0));
    }
    guard(moving, at, 4);
    now = bits(at, 4);
    if (round % 3 == 2) {
      char* to = area();
      check(mremap(moving, PAGES * PAGE, PAGES * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to);
      moving = to;
    }
    ok();
  }
}
