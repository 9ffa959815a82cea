// Messages without a byte, alone and among others, with descriptors and without: datagrams and packets. A look at the queue shows each
// only once, and the program has had its own. Files that others have, too, and one that is nowhere but at the head of a queue.
#include "program.h"
#include <sys/socket.h>
#include <sys/un.h>

enum { SOCKETS = 3, MOST = 5 };
static int kept[MOST];

static void put(int over, const char* text, const int* fds, int count) {
  union {
    char bytes[CMSG_SPACE(MOST * sizeof(int))];
    struct cmsghdr head;
  } control = {0};
  struct iovec part = {(void*)text, strlen(text)};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
  if (count > 0) {
    message.msg_control = &control;
    message.msg_controllen = CMSG_SPACE(count * sizeof(int));
    control.head.cmsg_level = SOL_SOCKET;
    control.head.cmsg_type = SCM_RIGHTS;
    control.head.cmsg_len = CMSG_LEN(count * sizeof(int));
    memcpy(CMSG_DATA(&control.head), fds, count * sizeof(int));
  }
  equal(sendmsg(over, &message, MSG_DONTWAIT), strlen(text));
}

// Returns how many descriptors came along.
static int take(int from, const char* text, int* fds, int flags) {
  char bytes[100], control[400];
  struct iovec part = {bytes, sizeof bytes};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  equal(recvmsg(from, &message, MSG_DONTWAIT | flags), strlen(text));
  check(!memcmp(bytes, text, strlen(text)));
  equal(message.msg_flags & MSG_CTRUNC, 0);
  int count = 0;
  for (struct cmsghdr* c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
    if (c->cmsg_type == SCM_CREDENTIALS) equal(((struct ucred*)CMSG_DATA(c))->pid, getpid());
    if (c->cmsg_type != SCM_RIGHTS) continue;
    count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    memcpy(fds, CMSG_DATA(c), count * sizeof(int));
  }
  return count;
}

// The description itself: what one moves, the other sees.
static void isSame(int fd, int other) {
  check(lseek(other, 5, SEEK_SET) == 5 && lseek(fd, 0, SEEK_CUR) == 5);
  check(lseek(fd, 2, SEEK_SET) == 2 && lseek(other, 0, SEEK_CUR) == 2);
  close(fd);
}

static void fillQueue(int over) {
  int two[] = {kept[1], kept[2]};
  put(over, "", kept, 1);
  put(over, "", NULL, 0);
  put(over, "some", &kept[3], 1);
  put(over, "", two, 2);
  put(over, "", &kept[4], 1);
  put(over, "last", NULL, 0);
}

static void takeQueue(int from) {
  int fds[MOST];
  equal(take(from, "", fds, 0), 1);
  isSame(fds[0], kept[0]);
  equal(take(from, "", fds, 0), 0);
  equal(take(from, "some", fds, 0), 1);
  isSame(fds[0], kept[3]);
  equal(take(from, "", fds, 0), 2);
  isSame(fds[0], kept[1]);
  isSame(fds[1], kept[2]);
  equal(take(from, "", fds, 0), 1);
  isSame(fds[0], kept[4]);
  equal(take(from, "last", fds, 0), 0);
}

// The reading end of a pipe, which its sender lets go of.
static void sendPipe(int over, int writer, int reader) {
  put(over, "", &reader, 1);
  close(reader);
  check(write(writer, "in the pipe", 11) == 11);
}

int main(void) {
  int types[SOCKETS] = {SOCK_DGRAM, SOCK_SEQPACKET, SOCK_DGRAM}, ends[SOCKETS][2], heads[2][2], pipes[2][2], on = 1, fds[MOST];
  for (int i = 0; i < MOST; i++) {
    char name[] = "/tmp/empty0";
    name[10] += i;
    kept[i] = open(name, O_CREAT | O_RDWR | O_TRUNC, 0600);
    check(write(kept[i], "0123456789", 10) == 10 && lseek(kept[i], 2, SEEK_SET) == 2);
  }
  for (int i = 0; i < SOCKETS; i++) {
    check(!socketpair(AF_UNIX, types[i], 0, ends[i]));
    if (i > 0) check(!setsockopt(ends[i][1], SOL_SOCKET, SO_PASSCRED, &on, sizeof on));
    fillQueue(ends[i][0]);
    // Its own look: the first message is shown to no other that has an offset.
    if (i < 2) {
      equal(take(ends[i][1], "", fds, MSG_PEEK), 1);
      close(fds[0]);
    }
  }
  check(!shutdown(ends[2][0], SHUT_WR));
  for (int i = 0; i < 2; i++) {
    check(!socketpair(AF_UNIX, types[i], 0, heads[i]) && !pipe(pipes[i]));
    sendPipe(heads[i][0], pipes[i][1], pipes[i][0]);
  }
  begin();
  for (int round = 0;; round++) {
    next();
    char text[64];
    for (int i = 0; i < SOCKETS; i++) {
      // What nobody can send to any more is taken once, as late as that is known to be in a clone.
      if (i == 2 && round != 4) continue;
      takeQueue(ends[i][1]);
      if (i < 2) fillQueue(ends[i][0]);
    }
    for (int i = 0; i < 2; i++) {
      equal(take(heads[i][1], "", fds, 0), 1);
      equal(read(fds[0], text, sizeof text), 11);
      check(!memcmp(text, "in the pipe", 11));
      sendPipe(heads[i][0], pipes[i][1], fds[0]);
    }
    ok();
  }
}
