// Memory of huge pages, for the programs that have some.
#ifndef HUGE_H
#define HUGE_H
#include "program.h"
#include <sys/shm.h>

#define HUGE (2ul << 20)

#define mapHuge(pages, flags, fd)                                                                    \
  ({                                                                                                 \
    void* at_ = mmap(NULL, (pages) * HUGE, PROT_READ | PROT_WRITE, flags, fd, 0);                    \
    if (at_ == MAP_FAILED) fail("no huge pages: set some aside (vm.nr_hugepages)");                  \
    (char*)at_;                                                                                      \
  })

// Bytes of a page there, from /proc/self/smaps.
__attribute__((unused)) static unsigned long pageSizeAt(const void* at) {
  FILE* f = fopen("/proc/self/smaps", "r");
  char line[512];
  unsigned long start, end, kilobytes;
  int inside = 0;
  check(f);
  while (fgets(line, sizeof line, f)) {
    if (sscanf(line, "%lx-%lx ", &start, &end) == 2) inside = start <= (unsigned long)at && (unsigned long)at < end;
    else if (inside && sscanf(line, "KernelPageSize: %lu kB", &kilobytes) == 1) {
      fclose(f);
      return kilobytes * 1024;
    }
  }
  fail("nothing is mapped at %p", at);
}
#endif
