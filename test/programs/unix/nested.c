// Descriptors in flight inside descriptors in flight, credentials with them, an abstract name, a socket that is on its way to itself.
#include "program.h"
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

static void sendFd(int over, int fd, const char* text) {
  char control[CMSG_SPACE(sizeof fd)] = {0};
  struct iovec v = {(void*)text, strlen(text)};
  struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  struct cmsghdr* c = CMSG_FIRSTHDR(&m);
  c->cmsg_level = SOL_SOCKET, c->cmsg_type = SCM_RIGHTS, c->cmsg_len = CMSG_LEN(sizeof fd);
  memcpy(CMSG_DATA(c), &fd, sizeof fd);
  check(sendmsg(over, &m, 0) == (ssize_t)strlen(text));
}

static int takeFd(int over, const char* text, struct ucred* who) {
  char control[256], back[64];
  int fd = -1;
  struct iovec v = {back, sizeof back};
  struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  ssize_t n = recvmsg(over, &m, MSG_DONTWAIT);
  if (n != (ssize_t)strlen(text) || memcmp(back, text, n)) fail("%zd bytes, not %s", n, text);
  for (struct cmsghdr* c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
    if (c->cmsg_type == SCM_RIGHTS) memcpy(&fd, CMSG_DATA(c), sizeof fd);
    if (c->cmsg_type == SCM_CREDENTIALS && who) memcpy(who, CMSG_DATA(c), sizeof *who);
  }
  check(fd >= 0);
  return fd;
}

static int outer[2], loop[2];

static void pack(void) {
  int middle[2], inner[2], content[2];
  check(!socketpair(AF_UNIX, SOCK_DGRAM, 0, middle) && !socketpair(AF_UNIX, SOCK_STREAM, 0, inner) && !pipe(content));
  check(write(content[1], "the innermost", 13) == 13);
  sendFd(inner[0], content[0], "c");
  sendFd(middle[0], inner[1], "bb");
  sendFd(outer[0], middle[1], "aaa");
  close(middle[0]), close(middle[1]), close(inner[0]), close(inner[1]), close(content[0]), close(content[1]);
  sendFd(loop[0], loop[1], "me");
}

static void unpack(void) {
  struct ucred who = {0};
  char back[64];
  int middle = takeFd(outer[1], "aaa", &who);
  equal(who.pid, getpid());
  int inner = takeFd(middle, "bb", NULL), content = takeFd(inner, "c", NULL);
  check(read(content, back, 13) == 13 && !memcmp(back, "the innermost", 13));
  equal(read(content, back, 1), 0);
  close(middle), close(inner), close(content);
  int self = takeFd(loop[1], "me", NULL);
  check(write(loop[0], "x", 1) == 1 && read(self, back, 1) == 1);
  close(self);
}

int main(void) {
  int on = 1;
  check(!socketpair(AF_UNIX, SOCK_STREAM, 0, outer) && !socketpair(AF_UNIX, SOCK_DGRAM, 0, loop));
  check(!setsockopt(outer[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof on));
  pack();
  begin();
  for (;;) {
    next();
    unpack();
    pack();
    ok();
  }
}
