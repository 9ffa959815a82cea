// epoll: targets whose numbers were closed while somebody else has them open, a number used again, nested, on its way in a queue.
#include "program.h"
#include <sys/epoll.h>
#include <sys/socket.h>

static void watch(int e, int fd, uint64_t data) {
  struct epoll_event event = {.events = EPOLLIN, .data.u64 = data};
  check(!epoll_ctl(e, EPOLL_CTL_ADD, fd, &event));
}

// The data of all that is ready, as a sum.
static uint64_t ready(int e) {
  struct epoll_event found[8];
  uint64_t sum = 0;
  int n = epoll_wait(e, found, 8, 0);
  check(n >= 0);
  for (int i = 0; i < n; i++) sum += found[i].data.u64;
  return sum;
}

int main(void) {
  int a[2], b[2], c[2], over[2], e = epoll_create1(0), outer = epoll_create1(EPOLL_CLOEXEC), flying = epoll_create1(0);
  check(!pipe(a) && !pipe(b) && !pipe(c) && !socketpair(AF_UNIX, SOCK_STREAM, 0, over));
  int twin = dup(a[0]);
  watch(e, a[0], 1);
  watch(e, b[0], 10);
  watch(e, c[0], 100);
  watch(outer, e, 1000);
  check(dup(e) >= 0);
  watch(flying, c[0], 5);
  pid_t child = fork();
  if (!child)
    for (;;) pause();
  close(a[0]);
  int number = b[0];
  close(b[0]);
  check(dup2(c[1], number) == number);
  check(write(a[1], "x", 1) == 1 && write(b[1], "x", 1) == 1);
  struct iovec part = {"e", 1};
  union {
    char bytes[CMSG_SPACE(sizeof(int))];
    struct cmsghdr h;
  } control;
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  control.h = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
  begin();
  for (;;) {
    memcpy(CMSG_DATA(&control.h), &flying, sizeof flying);
    message.msg_controllen = sizeof control;
    check(sendmsg(over[0], &message, 0) == 1);
    close(flying);
    next();
    equal(ready(e), 11);
    equal(ready(outer), 1000);
    char x;
    check(read(twin, &x, 1) == 1);
    equal(ready(e), 10);
    check(write(c[1], "y", 1) == 1);
    equal(ready(e), 110);
    message.msg_controllen = sizeof control;
    part.iov_base = &x;
    check(recvmsg(over[1], &message, 0) == 1);
    memcpy(&flying, CMSG_DATA(&control.h), sizeof flying);
    equal(ready(flying), 5);
    check(read(c[0], &x, 1) == 1);
    equal(ready(flying), 0);
    check(write(a[1], "x", 1) == 1);
    ok();
  }
}
