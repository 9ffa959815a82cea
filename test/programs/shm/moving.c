// Segments come and go, are written while attached for a moment by short-lived processes, and exist detached in between.
#include "program.h"
#include <sys/shm.h>

#define BYTES (8 * 4096)

int main(void) {
  int id = shmget(0x2001, BYTES, IPC_CREAT | 0600), gone = -1, kept = -1;
  uint64_t seed = 1;
  void* at = shmat(id, NULL, 0);
  fill(at, BYTES, seed);
  shmdt(at);
  begin();
  for (;;) {
    while (!asked()) {
      pid_t child = fork();
      if (child == 0) {
        char* mine = shmat(id, NULL, 0);
        if (!isFilled(mine, BYTES, seed)) _exit(1);
        fill(mine, BYTES, seed + 1);
        _exit(0);
      }
      int status;
      check(waitpid(child, &status, 0) == child);
      equal(status, 0);
      seed++;
      if (gone >= 0) check(!shmctl(gone, IPC_RMID, NULL));
      gone = kept;
      kept = shmget(0x2002 + seed % 3, BYTES, IPC_CREAT | 0600);
      check(kept >= 0);
      at = shmat(kept, NULL, 0);
      fill(at, BYTES, seed);
      shmdt(at);
      sleepMs(1);
    }
    at = shmat(id, NULL, 0);
    check(isFilled(at, BYTES, seed));
    shmdt(at);
    at = shmat(shmget(0x2002 + seed % 3, 0, 0), NULL, 0);
    check(isFilled(at, BYTES, seed));
    shmdt(at);
    ok();
  }
}
