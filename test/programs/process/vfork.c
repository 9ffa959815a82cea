// A vfork whose child takes its time: nobody can stop the parent meanwhile. The barrier gives up, the program does not notice.
#include "program.h"

int main(void) {
  begin();
  for (;;) {
    next();
    pid_t pid = vfork();
    if (!pid) {
      say("child");
      sleepMs(300);
      _exit(7);
    }
    int status;
    equal(waitpid(pid, &status, 0), pid);
    equal(WEXITSTATUS(status), 7);
    ok();
  }
}
