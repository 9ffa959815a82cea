// MADV_DONTNEED of small and large ranges (beyond 4 MB page tables go as well), again and again; an area unmapped and mapped
// again at the same place; zero must come back everywhere.
#include "program.h"

#define LARGE (24ul << 20)

static char* at;
static char* again;

int main(void) {
  at = mmap(NULL, LARGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  madvise(at, LARGE, MADV_NOHUGEPAGE);
  again = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  fill(at, 16 << 20, 1);
  fill(at + (16 << 20), 8 << 20, 1);
  fill(again, 1 << 20, 1);
  begin();
  for (int round = 1;; round++) {
    next();
    // As the last round left it.
    if (round == 1) check(isFilled(at, 16 << 20, 1) && isFilled(at + (16 << 20), 8 << 20, 1));
    else if (round % 2 == 0) {
      check(isByte(at, 16 << 20, 0));
      check(isFilled(at + (16 << 20), 8 << 20, 1));
      check(isByte(again, 1 << 20, 0));
    } else {
      check(isFilled(at, 4096 * 3, round - 1));
      check(isByte(at + 4096 * 3, 4096, 0));
      check(isFilled(at + (16 << 20), 8 << 20, 1));
      check(isFilled(again, 4096, round - 1));
      check(isByte(again + 4096, (1 << 20) - 4096, 0));
    }
    if (round % 2 == 1) {
      check(!madvise(at, 16 << 20, MADV_DONTNEED));
      check(!munmap(again, 1 << 20));
      check(mmap(again, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == again);
    } else {
      fill(at, 4096 * 4, round);
      check(!madvise(at + 4096 * 3, 4096, MADV_DONTNEED));
      fill(again, 4096, round);
    }
    ok();
  }
}
