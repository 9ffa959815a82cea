// The heap grows and shrinks by brk between checkpoints and after them.
#include "program.h"

int main(void) {
  char* base = sbrk(0);
  char* end = base;
  begin();
  for (int round = 0;; round++) {
    next();
    for (char* p = base; p < end; p += 4096) check(isFilled(p, 4096, (uint64_t)(p - base) / 4096 + 7));
    if (round % 4 == 3) {
      check(sbrk(-(intptr_t)(16 * 4096)) != (void*)-1);
      end -= 16 * 4096;
    } else {
      check(sbrk(64 * 4096) == end);
      for (char* p = end; p < end + 64 * 4096; p += 4096) {
        check(isByte(p, 4096, 0));
        fill(p, 4096, (uint64_t)(p - base) / 4096 + 7);
      }
      end += 64 * 4096;
    }
    equal((char*)sbrk(0) - base, end - base);
    ok();
  }
}
