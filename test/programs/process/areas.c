// What /proc shows of a process: command line and environment (written over, as setproctitle does), name, auxv, exe, personality.
#include "program.h"
#include <sys/auxv.h>
#include <sys/personality.h>
#include <sys/prctl.h>

extern char** environ;
static char want[3][4096], have[4096];
static ssize_t sizes[3];
static const char* const files[] = {"/proc/self/cmdline", "/proc/self/environ", "/proc/self/auxv"};

static ssize_t content(const char* path, char* out) {
  int fd = open(path, O_RDONLY);
  check(fd >= 0);
  ssize_t n = read(fd, out, 4096);
  close(fd);
  return n;
}

int main(int argc, char** argv) {
  if (argc < 2) {
    char* const args[] = {argv[0], "first", "second argument", NULL};
    char* const env[] = {"ONE=1", "LONG=some longer value that is written over", NULL};
    execve("/proc/self/exe", args, env);
    fail("execve");
  }
  memcpy(argv[1], "FIRST", 5);
  memcpy(environ[1] + 5, "SOME", 4);
  check(!prctl(PR_SET_NAME, "written over"));
  check(personality(ADDR_NO_RANDOMIZE | PER_LINUX) >= 0);
  check(!prctl(PR_SET_DUMPABLE, 0));
  check(!prctl(PR_SET_TIMERSLACK, 123456));
  check(!prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0));
  int fd = open("/proc/self/oom_score_adj", O_WRONLY);
  check(fd >= 0 && write(fd, "321", 3) == 3);
  close(fd);
  for (int i = 0; i < 3; i++) sizes[i] = content(files[i], want[i]);
  begin();
  for (;;) {
    next();
    for (int i = 0; i < 3; i++) {
      equal(content(files[i], have), sizes[i]);
      if (memcmp(have, want[i], sizes[i])) fail("%s is another", files[i]);
    }
    check(strstr(want[0], "areas") && !strcmp(want[0] + strlen(want[0]) + 1, "FIRST"));
    ssize_t n = content("/proc/self/comm", have);
    check(n == 13 && !memcmp(have, "written over\n", 13));
    n = content("/proc/self/oom_score_adj", have);
    have[n] = 0;
    equal(atoi(have), 321);
    equal(personality(0xffffffff), ADDR_NO_RANDOMIZE);
    equal(prctl(PR_GET_DUMPABLE), 0);
    equal(prctl(PR_GET_TIMERSLACK), 123456);
    equal(prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0), 1);
    check(getauxval(AT_PAGESZ) == 4096);
    ok();
  }
}
