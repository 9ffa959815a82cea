// The last page of an address space, where now and then a stack begins: the end of what the kernel may be asked about.
#include "program.h"

#define PAGE 4096
static const uintptr_t kEnd = 0x7ffffffff000;

int main(void) {
  char* last = mmap((void*)(kEnd - PAGE), PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  // Else the stack is there already.
  if (last == MAP_FAILED) check(errno == EEXIST);
  uint64_t seed = 1;
  if (last != MAP_FAILED) fill(last, PAGE, seed);
  begin();
  for (;;) {
    next();
    if (last != MAP_FAILED) {
      check(isFilled(last, PAGE, seed));
      fill(last, PAGE, ++seed);
    }
    ok();
  }
}
