// Holds memory of the kind that is named, a private mapping of a memfd of huge pages or what is under a guard, and does nothing.
#include "program.h"

#define BYTES (2 << 20)

int main(int argc, char** argv) {
  const char* kind = argv[1];
  if (!strcmp(kind, "huge-copy")) {
    int fd = memfd_create("huge", MFD_HUGETLB);
    check(!ftruncate(fd, BYTES));
    check(mmap(NULL, BYTES, PROT_READ, MAP_PRIVATE | MAP_NORESERVE, fd, 0) != MAP_FAILED);
  } else if (!strcmp(kind, "guarded")) {
    char* at = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    memset(at, 1, BYTES);
    check(!madvise(at + 4096, 8192, 102));
  }
  begin();
  for (;;) {
    next();
    ok();
  }
}
