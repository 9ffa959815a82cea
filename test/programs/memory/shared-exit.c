// Children write to shared memory and end before the next checkpoint; the parent, which has it mapped, never writes.
#include "program.h"

#define BYTES (32 * 4096)

int main(void) {
  char* shared = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  begin();
  for (int round = 0;; round++) {
    next();
    if (round == 0) check(isByte(shared, BYTES, 0));
    else check(isFilled(shared, BYTES / 2, round) && isFilled(shared + BYTES / 2, BYTES / 2, round + 50));
    pid_t pid = fork();
    if (!pid) {
      fill(shared, BYTES / 2, round + 1);
      _exit(0);
    }
    equal(waitpid(pid, NULL, 0), pid);
    pid = fork();
    if (!pid) {
      // Alive long enough to be known to the checkpoints.
      sleepMs(60);
      fill(shared + BYTES / 2, BYTES / 2, round + 51);
      _exit(0);
    }
    equal(waitpid(pid, NULL, 0), pid);
    ok();
  }
}
