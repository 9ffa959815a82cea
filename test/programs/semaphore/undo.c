// SEM_UNDO: each process's own, up and down and to the bounds; what a child holds comes back when it is killed, exactly.
#include "program.h"
#include <sys/sem.h>

static int id;

static void op(int n, int by, int flags) {
  struct sembuf b = {n, by, flags};
  if (semop(id, &b, 1)) fail("semop");
}

// A child that does something to the set and waits.
static pid_t child(void (*act)(int), int by) {
  int ready[2];
  check(!pipe(ready));
  pid_t pid = fork();
  if (pid == 0) {
    act(by);
    check(write(ready[1], "x", 1) == 1);
    for (;;) pause();
  }
  char c;
  check(read(ready[0], &c, 1) == 1);
  close(ready[0]), close(ready[1]);
  return pid;
}

static void hold(int by) {
  op(0, by, SEM_UNDO);
  op(1, by / 2, SEM_UNDO);
}

static pid_t holder(int by) { return child(hold, by); }

static void endOf(pid_t pid) {
  int status;
  check(!kill(pid, SIGKILL) && waitpid(pid, &status, 0) == pid);
}

static void holdMuch(int by) {
  op(2, -by, SEM_UNDO);
  op(3, by, SEM_UNDO);
  op(4, -20000, SEM_UNDO);
  op(4, 12000, 0);
  op(5, 1, SEM_UNDO), op(5, -1, SEM_UNDO);
}

// More than a step of the clone's takes, from and to the bounds.
static pid_t extreme(void) {
  check(!semctl(id, 2, SETVAL, 32767) && !semctl(id, 3, SETVAL, 0) && !semctl(id, 4, SETVAL, 20000));
  return child(holdMuch, 32767);
}

int main(void) {
  id = semget(IPC_PRIVATE, 6, IPC_CREAT | 0600);
  check(id >= 0 && !semctl(id, 0, SETVAL, 100) && !semctl(id, 1, SETVAL, 200));
  pid_t first = holder(-10), second = holder(-30), third = holder(20), fourth = extreme();
  begin();
  for (;;) {
    next();
    equal(semctl(id, 0, GETVAL), 80);
    equal(semctl(id, 1, GETVAL), 190);
    endOf(second);
    equal(semctl(id, 0, GETVAL), 110);
    equal(semctl(id, 1, GETVAL), 205);
    endOf(third);
    equal(semctl(id, 0, GETVAL), 90);
    equal(semctl(id, 1, GETVAL), 195);
    endOf(first);
    equal(semctl(id, 0, GETVAL), 100);
    equal(semctl(id, 1, GETVAL), 200);
    first = holder(-10), second = holder(-30), third = holder(20);
    equal(semctl(id, 2, GETVAL), 0);
    equal(semctl(id, 3, GETVAL), 32767);
    equal(semctl(id, 4, GETVAL), 12000);
    endOf(fourth);
    equal(semctl(id, 2, GETVAL), 32767);
    equal(semctl(id, 3, GETVAL), 0);
    equal(semctl(id, 4, GETVAL), 32000);
    equal(semctl(id, 5, GETVAL), 0);
    fourth = extreme();
    ok();
  }
}
