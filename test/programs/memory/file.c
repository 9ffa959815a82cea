// A private mapping of a file whose name is not ASCII: pages changed (copy on write), pages of the file, changed ones given back to the file.
#include "program.h"

#define PAGES 32

int main(void) {
  int fd = open("/tmp/mapped-\xc3\xbc", O_CREAT | O_RDWR | O_TRUNC, 0600);
  char page[4096];
  for (int i = 0; i < PAGES; i++) {
    fill(page, 4096, 500 + i);
    check(write(fd, page, 4096) == 4096);
  }
  char* at = mmap(NULL, PAGES * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
  char* shifted = mmap(NULL, 4 * 4096, PROT_READ, MAP_PRIVATE, fd, 8 * 4096);
  check(!close(fd));
  for (int i = 0; i < PAGES; i += 3) fill(at + i * 4096, 4096, 900 + i);
  begin();
  for (int round = 0;; round++) {
    next();
    for (int i = 0; i < PAGES; i++) {
      uint64_t seed = i % 3 == 0 ? (i == 3 && round % 2 == 1 ? 503 : 900u + i) : 500u + i;
      if (!isFilled(at + i * 4096, 4096, seed)) fail("page %d in round %d", i, round);
    }
    for (int i = 0; i < 4; i++) check(isFilled(shifted + i * 4096, 4096, 508 + i));
    if (round % 2 == 0) check(!madvise(at + 3 * 4096, 4096, MADV_DONTNEED));
    else fill(at + 3 * 4096, 4096, 903);
    ok();
  }
}
