// What a process has asked of its memory as a whole: barriers that its threads may use on each other (more of them in each round),
// merging of pages alike, what a core would hold, and in the end that nothing writable may ever be run.
#include "program.h"
#include <sys/prctl.h>

#define SET_MDWE 65
#define GET_MDWE 66
#define SET_MERGE 67
#define GET_MERGE 68
#define REGISTRATIONS 512

static const int registers[] = {16, 4, 64, 256};
static const int uses[] = {8, 2, 32, 128};

static void core(int filter) {
  char text[16];
  int fd = open("/proc/self/coredump_filter", O_WRONLY), n = snprintf(text, sizeof text, "0x%x", filter);
  check(fd >= 0 && write(fd, text, n) == n);
  close(fd);
}

static void isCore(int filter) {
  char text[16] = {0};
  int fd = open("/proc/self/coredump_filter", O_RDONLY);
  check(fd >= 0 && read(fd, text, sizeof text - 1) > 0);
  close(fd);
  equal(strtol(text, NULL, 16), filter);
}

static int mergeable = 1;

static void become(int round) {
  if (round < 4) check(!syscall(SYS_membarrier, registers[round], 0, 0));
  if (mergeable && prctl(SET_MERGE, round % 2, 0, 0, 0)) mergeable = 0;
  core(0x11 + round % 3);
  if (round == 3) check(!prctl(SET_MDWE, 1, 0, 0, 0));
}

static void is(int round) {
  int now = syscall(SYS_membarrier, REGISTRATIONS, 0, 0);
  for (int i = 0; i < 4; i++) {
    equal((now & registers[i]) != 0, i <= round);
    // The one for all processes may be used without.
    if (i != 1) equal(syscall(SYS_membarrier, uses[i], 0, 0) == 0, i <= round);
  }
  if (mergeable) equal(prctl(GET_MERGE, 0, 0, 0, 0), round % 2);
  isCore(0x11 + round % 3);
  equal(prctl(GET_MDWE, 0, 0, 0, 0), round >= 3);
  void* page = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  equal(page == MAP_FAILED, round >= 3);
  if (page != MAP_FAILED) munmap(page, 4096);
}

int main(void) {
  become(0);
  begin();
  for (int round = 0;; round++) {
    next();
    is(round);
    become(round + 1);
    ok();
  }
}
