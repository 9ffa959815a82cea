// A process whose working directory is another after each question, and the one before is gone.
#include "program.h"

int main(void) {
  char wanted[64] = "/", here[64];
  begin();
  for (int round = 0;; round++) {
    next();
    check(getcwd(here, sizeof here));
    if (strcmp(here, wanted)) fail("in %s, not %s", here, wanted);
    char gone[64];
    strcpy(gone, wanted);
    snprintf(wanted, sizeof wanted, "/tmp/wandering-%d", round);
    check(!mkdir(wanted, 0755) && !chdir(wanted));
    if (round > 0) check(!rmdir(gone));
    ok();
  }
}
