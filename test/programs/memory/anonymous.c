// Plain anonymous memory: written, never touched, read-only, without access but with content, and huge pages asked for.
#include "program.h"

#define AREA (1 << 20)

int main(void) {
  char* plain = mmap(NULL, AREA, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  char* sparse = mmap(NULL, 64 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  char* readOnly = mmap(NULL, AREA, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  char* hidden = mmap(NULL, AREA, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  char* reserved = mmap(NULL, 1ul << 36, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  char* huge = mmap(NULL, 8 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  check(reserved != MAP_FAILED);
  madvise(huge, 8 << 20, MADV_HUGEPAGE);
  fill(plain, AREA, 1);
  for (int i = 0; i < 64; i++) fill(sparse + (i << 20), 4096, 100 + i);
  fill(readOnly, AREA, 2);
  check(!mprotect(readOnly, AREA, PROT_READ));
  fill(hidden, AREA, 3);
  check(!mprotect(hidden, AREA, PROT_NONE));
  fill(huge, 8 << 20, 4);
  begin();
  for (int round = 0;; round++) {
    next();
    check(isFilled(plain, AREA, round == 0 ? 1 : 1000 + round));
    for (int i = 0; i < 64; i++) {
      check(isFilled(sparse + (i << 20), 4096, 100 + i));
      check(isByte(sparse + (i << 20) + 4096, 4096, 0));
    }
    check(isFilled(readOnly, AREA, 2));
    check(!mprotect(hidden, AREA, PROT_READ));
    check(isFilled(hidden, AREA, 3));
    check(!mprotect(hidden, AREA, PROT_NONE));
    check(isFilled(huge, 8 << 20, 4));
    fill(plain, AREA, 1000 + round + 1);
    ok();
  }
}
