// mlockall: what is there and what is to come stays in memory; a part is let go again.
#include "program.h"

static long lockedKilobytes(void) {
  char text[4096];
  int fd = open("/proc/self/status", O_RDONLY);
  int n = read(fd, text, sizeof text - 1);
  close(fd);
  text[n] = 0;
  return atol(strstr(text, "VmLck:") + 6);
}

int main(void) {
  check(!mlockall(MCL_CURRENT | MCL_FUTURE));
  char* m = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  check(!munlock(m + 4096, 8192));
  long first = lockedKilobytes();
  begin();
  for (;;) {
    next();
    equal(lockedKilobytes(), first);
    char* more = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    check(more != MAP_FAILED);
    equal(lockedKilobytes(), first + 1024);
    unsigned char there[256];
    check(!mincore(more, 1 << 20, there));
    for (int i = 0; i < 256; i++) check(there[i] & 1);
    check(!munmap(more, 1 << 20));
    equal(lockedKilobytes(), first);
    ok();
  }
}
