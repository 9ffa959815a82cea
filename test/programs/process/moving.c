// Processes are born, run another program and end all the time; every exit code must come back.
#include "program.h"

int main(int argc, char** argv) {
  if (argc > 1) {
    sleepMs(atoi(argv[1]) % 3);
    return atoi(argv[1]);
  }
  int n = 0;
  begin();
  for (;;) {
    pid_t pids[3];
    for (int i = 0; i < 3; i++) {
      pids[i] = fork();
      if (!pids[i]) {
        if (i == 2) _exit((n + i) % 100);
        char text[16];
        snprintf(text, sizeof text, "%d", (n + i) % 100);
        execl("/proc/self/exe", argv[0], text, NULL);
        _exit(101);
      }
    }
    for (int i = 0; i < 3; i++) {
      int status;
      equal(waitpid(pids[i], &status, 0), pids[i]);
      if (!WIFEXITED(status) || WEXITSTATUS(status) != (n + i) % 100)
        fail("status %x of child %d, not %d", status, i, (n + i) % 100);
    }
    n++;
    if (asked()) ok();
    sleepMs(3);
  }
}
