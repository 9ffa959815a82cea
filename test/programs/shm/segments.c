// System V shared memory: a segment attached by two processes in turns, one detached with content, one removed but attached, a
// part of one, one attached read-only; identifiers, keys, modes, owners, sizes and numbers of attaches.
#include "program.h"
#include <sys/ipc.h>
#include <sys/shm.h>

#define BYTES (16 * 4096)

static int ids[5];

static void look(int id, size_t bytes, int mode, unsigned long attached) {
  struct shmid_ds d;
  check(!shmctl(id, IPC_STAT, &d));
  equal(d.shm_segsz, bytes);
  equal(d.shm_perm.mode & 01777, mode);
  equal(d.shm_nattch, attached);
}

struct turns { volatile uint32_t asked, done; };

int main(void) {
  ids[0] = shmget(0x1001, BYTES, IPC_CREAT | IPC_EXCL | 0600);
  ids[1] = shmget(0x1002, 56, IPC_CREAT | IPC_EXCL | 0640);
  ids[2] = shmget(IPC_PRIVATE, BYTES, IPC_CREAT | 0600);
  ids[3] = shmget(0x1003, BYTES, IPC_CREAT | 0666);
  int hole = shmget(0x1004, 4096, IPC_CREAT | 0600);
  ids[4] = shmget(0x1005, 4096, IPC_CREAT | 0600);
  check(!shmctl(hole, IPC_RMID, NULL));
  char* both = shmat(ids[0], NULL, 0);
  struct turns* turns = (void*)both;
  char* detached = shmat(ids[1], NULL, 0);
  memset(detached, 7, 56);
  check(!shmdt(detached));
  char* removed = shmat(ids[2], NULL, 0);
  fill(removed, BYTES, 3);
  check(!shmctl(ids[2], IPC_RMID, NULL));
  char* part = shmat(ids[3], NULL, 0);
  fill(part, BYTES, 4);
  check(!munmap(part, 4 * 4096));
  part += 4 * 4096;
  struct shmid_ds d;
  check(!shmctl(ids[4], IPC_STAT, &d));
  d.shm_perm.uid = 1234;
  d.shm_perm.gid = 4321;
  d.shm_perm.mode = 0604;
  check(!shmctl(ids[4], IPC_SET, &d));
  const char* readOnly = shmat(ids[4], NULL, SHM_RDONLY);
  pid_t child = fork();
  if (child == 0) {
    for (;;) {
      if (getppid() == 1) _exit(0);
      if (turns->asked != turns->done) {
        memset(both + 4096, turns->asked, BYTES - 4096);
        // Somebody who has it attached for an instant only.
        char* d = shmat(ids[1], NULL, 0);
        memset(d, turns->asked, 56);
        shmdt(d);
        turns->done = turns->asked;
      }
      sleepMs(1);
    }
  }
  begin();
  for (uint32_t round = 1;; round++) {
    next();
    look(ids[0], BYTES, 0600, 2);
    look(ids[1], 56, 0640, 0);
    look(ids[2], BYTES, 01600, 2);
    look(ids[3], BYTES, 0666, 2);
    look(ids[4], 4096, 0604, 2);
    check(!shmctl(ids[4], IPC_STAT, &d));
    equal(d.shm_perm.uid, 1234);
    equal(d.shm_perm.gid, 4321);
    equal(shmget(0x1001, 0, 0), ids[0]);
    equal(shmget(0x1002, 0, 0), ids[1]);
    equal(shmget(0x1004, 0, 0), -1);
    check(isFilled(removed, BYTES, round == 1 ? 3 : 10 + round));
    check(isByte(both + 4096, BYTES - 4096, round - 1));
    char* all = shmat(ids[3], NULL, 0);
    check(!memcmp(all + 4 * 4096, part, BYTES - 4 * 4096));
    check(round > 1 || isFilled(all, BYTES, 4));
    fill(part, 4096, round);
    check(!shmdt(all));
    check(isByte(readOnly, 4096, 0));
    detached = shmat(ids[1], NULL, 0);
    check(isByte(detached, 56, round == 1 ? 7 : (int)round - 1));
    check(!shmdt(detached));
    turns->asked = round;
    for (int i = 0; turns->done != round; i++) {
      if (i > 1000) fail("the child does not answer");
      sleepMs(1);
    }
    fill(removed, BYTES, 11 + round);
    ok();
  }
}
