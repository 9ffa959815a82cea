// Holds memory of the kind that is named, huge pages or what is under a guard, and does nothing.
#include "program.h"
#include <sys/shm.h>

#define BYTES (2 << 20)

int main(int argc, char** argv) {
  const char* kind = argv[1];
  if (!strcmp(kind, "private"))
    check(mmap(NULL, BYTES, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_NORESERVE, -1, 0) != MAP_FAILED);
  else if (!strcmp(kind, "shared"))
    check(mmap(NULL, BYTES, PROT_READ, MAP_SHARED | MAP_ANONYMOUS | MAP_HUGETLB | MAP_NORESERVE, -1, 0) != MAP_FAILED);
  else if (!strcmp(kind, "memfd")) check(memfd_create("huge", MFD_HUGETLB) >= 0);
  else if (!strcmp(kind, "segment")) check(shmat(shmget(IPC_PRIVATE, BYTES, IPC_CREAT | SHM_HUGETLB | SHM_NORESERVE | 0600), NULL, 0) != (void*)-1);
  else if (!strcmp(kind, "guarded")) {
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
