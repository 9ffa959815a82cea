// Holds huge pages of the kind that is named, and does nothing.
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
  begin();
  for (;;) {
    next();
    ok();
  }
}
