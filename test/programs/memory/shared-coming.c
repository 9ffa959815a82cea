// Shared memory that comes and goes: mapped without a name, of a memfd that is closed while it is mapped and of one that is closed
// afterwards. What is mapped has what was written; what is not leaves nothing behind.
#include "program.h"

#define BYTES (256 << 10)

static char* mapped[3];
static uint64_t seed;

static void change(void) {
  for (int i = 0; i < 3; i++)
    if (mapped[i]) check(isFilled(mapped[i], BYTES, seed + i));
  static int late = -1;
  for (int i = 0; i < 3; i++)
    if (mapped[i]) check(!munmap(mapped[i], BYTES));
  if (late >= 0) close(late);
  seed += 10;
  for (int i = 0; i < 3; i++) {
    int fd = i == 0 ? -1 : memfd_create("coming", MFD_CLOEXEC);
    if (fd >= 0) check(!ftruncate(fd, BYTES));
    mapped[i] = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | (fd < 0 ? MAP_ANONYMOUS : 0), fd, 0);
    check(mapped[i] != MAP_FAILED);
    fill(mapped[i], BYTES, seed + i);
    if (i == 1) close(fd);
    if (i == 2) late = fd;
  }
}

int main(void) {
  change();
  begin();
  for (;;) {
    next();
    change();
    ok();
  }
}
