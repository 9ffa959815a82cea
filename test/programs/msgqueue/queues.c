// System V message queues: content in order, types and sizes, keys, limits; a child that waits for a message gets the next one.
#include "program.h"
#include <sys/msg.h>

struct message { long type; char text[8000]; };

int main(void) {
  static struct message m;
  int gone = msgget(0x4000, IPC_CREAT | 0600);
  int id = msgget(0x4001, IPC_CREAT | IPC_EXCL | 0620), calls = msgget(IPC_PRIVATE, IPC_CREAT | 0600);
  check(!msgctl(gone, IPC_RMID, NULL));
  int sizes[] = {0, 1, 100, 8000, 4056};
  for (int i = 0; i < 5; i++) {
    m.type = 10 + i;
    memset(m.text, i, sizes[i]);
    check(!msgsnd(id, &m, sizes[i], 0));
  }
  struct msqid_ds d;
  check(!msgctl(id, IPC_STAT, &d));
  d.msg_qbytes = 16000;
  check(!msgctl(id, IPC_SET, &d));
  if (fork() == 0)
    for (;;) {
      if (msgrcv(calls, &m, 8000, 1, 0) != 5) _exit(1);
      m.type = 2;
      m.text[0]++;
      msgsnd(calls, &m, 5, 0);
    }
  begin();
  for (int round = 0;; round++) {
    next();
    check(!msgctl(id, IPC_STAT, &d));
    equal(d.msg_qnum, 5);
    equal(d.msg_qbytes, 16000);
    equal(d.msg_perm.mode & 0777, 0620);
    equal(msgget(0x4001, 0), id);
    equal(msgget(0x4000, 0), -1);
    int i = round % 5;
    equal(msgrcv(id, &m, 8000, 0, IPC_NOWAIT), sizes[i]);
    equal(m.type, 10 + i);
    check(isByte(m.text, sizes[i], i));
    check(!msgsnd(id, &m, sizes[i], 0));
    m.type = 1;
    m.text[0] = round;
    check(!msgsnd(calls, &m, 5, 0));
    equal(msgrcv(calls, &m, 8000, 2, 0), 5);
    equal(m.text[0], (char)(round + 1));
    ok();
  }
}
