// Much address space reserved without access, opened and closed again piece by piece, with content before, in and after it;
// page tables must not grow with what is reserved.
#include "program.h"

#define RESERVED (1ul << 35)
#define PIECE (1ul << 20)

static long tableKb(void) {
  char text[8192];
  int fd = open("/proc/self/status", O_RDONLY);
  ssize_t n = read(fd, text, sizeof text - 1);
  close(fd);
  check(n > 0);
  text[n] = 0;
  return strtol(strstr(text, "VmPTE:") + 6, NULL, 10);
}

int main(void) {
  char* at = mmap(NULL, RESERVED, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  begin();
  for (int round = 1;; round++) {
    next();
    // Of the last round: one piece open, one closed with its content, one given back and closed.
    char* last = at + (round - 1) * 100 * PIECE;
    if (round > 1) {
      check(isFilled(last, PIECE, round - 1));
      check(!mprotect(last + PIECE, 2 * PIECE, PROT_READ | PROT_WRITE));
      check(isFilled(last + PIECE, PIECE, round + 99));
      check(isByte(last + 2 * PIECE, PIECE, 0));
    }
    char* now = at + round * 100 * PIECE;
    check(!mprotect(now, 3 * PIECE, PROT_READ | PROT_WRITE));
    fill(now, PIECE, round);
    fill(now + PIECE, PIECE, round + 100);
    fill(now + 2 * PIECE, PIECE, round + 200);
    if (round % 2) sleepMs(30);
    check(!madvise(now + 2 * PIECE, PIECE, MADV_DONTNEED));
    check(!mprotect(now + PIECE, 2 * PIECE, PROT_NONE));
    if (tableKb() > 4096) fail("%ld kB of page tables", tableKb());
    ok();
  }
}
