// System V semaphores: sets with values, modes and keys; a child that waits in semop goes on waiting until it is let through.
#include "program.h"
#include <sys/sem.h>

static void op(int id, int n, int by) {
  struct sembuf b = {n, by, 0};
  if (semop(id, &b, 1)) fail("semop");
}

int main(void) {
  int gone = semget(0x3000, 1, IPC_CREAT | 0600);
  int id = semget(0x3001, 5, IPC_CREAT | IPC_EXCL | 0640), other = semget(IPC_PRIVATE, 250, IPC_CREAT | 0600);
  check(!semctl(gone, 0, IPC_RMID));
  for (int i = 0; i < 250; i++) check(!semctl(other, i, SETVAL, i * 131));
  check(!semctl(id, 0, SETVAL, 3));
  check(!semctl(id, 1, SETVAL, 32767));
  if (fork() == 0) {
    for (;;) {
      op(id, 2, -1);
      op(id, 3, 1);
    }
  }
  begin();
  for (int round = 1;; round++) {
    next();
    struct semid_ds d;
    check(!semctl(id, 0, IPC_STAT, &d));
    equal(d.sem_perm.mode & 0777, 0640);
    equal(d.sem_nsems, 5);
    equal(semget(0x3001, 5, 0), id);
    equal(semget(0x3000, 1, 0), -1);
    equal(semctl(id, 0, GETVAL), 2 + round);
    equal(semctl(id, 1, GETVAL), 32767);
    for (int i = 0; i < 250; i++) equal(semctl(other, i, GETVAL), i * 131);
    for (int i = 0; !semctl(id, 2, GETNCNT); i++) {
      if (i > 1000) fail("the child does not wait");
      sleepMs(1);
    }
    op(id, 2, 1);
    op(id, 3, -1);
    op(id, 0, 1);
    ok();
  }
}
