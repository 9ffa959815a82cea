// Descriptors on their way in queues: a file with its position, a pipe with content, a socket with a queue of its own; credentials.
#include "program.h"
#include <sys/socket.h>
#include <sys/un.h>

static void sendFd(int over, int fd, const char* text) {
  struct iovec part = {(void*)text, strlen(text)};
  char control[CMSG_SPACE(sizeof fd)];
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  struct cmsghdr* c = CMSG_FIRSTHDR(&message);
  c->cmsg_level = SOL_SOCKET;
  c->cmsg_type = SCM_RIGHTS;
  c->cmsg_len = CMSG_LEN(sizeof fd);
  memcpy(CMSG_DATA(c), &fd, sizeof fd);
  equal(sendmsg(over, &message, 0), strlen(text));
}

static int receiveFd(int from, const char* text, struct ucred* sender) {
  char bytes[100], control[200];
  struct iovec part = {bytes, sizeof bytes};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  equal(recvmsg(from, &message, MSG_DONTWAIT), strlen(text));
  check(!memcmp(bytes, text, strlen(text)));
  int fd = -1;
  for (struct cmsghdr* c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
    if (c->cmsg_type == SCM_RIGHTS) memcpy(&fd, CMSG_DATA(c), sizeof fd);
    if (c->cmsg_type == SCM_CREDENTIALS && sender) memcpy(sender, CMSG_DATA(c), sizeof *sender);
  }
  return fd;
}

int main(void) {
  char text[64];
  int over[2], gram[2], pipeEnds[2], inner[2], on = 1;
  check(!socketpair(AF_UNIX, SOCK_STREAM, 0, over) && !socketpair(AF_UNIX, SOCK_DGRAM, 0, gram));
  check(!socketpair(AF_UNIX, SOCK_STREAM, 0, inner) && !pipe(pipeEnds));
  check(!setsockopt(gram[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof on));
  int file = open("/tmp/flight", O_CREAT | O_RDWR | O_TRUNC, 0600), kept = open("/tmp/flight", O_RDONLY);
  check(write(file, "0123456789", 10) == 10 && lseek(file, 3, SEEK_SET) == 3);
  check(write(pipeEnds[1], "in the pipe", 11) == 11 && write(inner[0], "inside", 6) == 6);
  sendFd(over[0], file, "file");
  sendFd(over[0], pipeEnds[0], "pipe");
  sendFd(over[0], inner[1], "socket");
  sendFd(over[0], kept, "kept");
  sendFd(gram[0], kept, "gram");
  close(file);
  close(pipeEnds[0]);
  close(inner[1]);
  begin();
  for (;;) {
    next();
    int f = receiveFd(over[1], "file", NULL), p = receiveFd(over[1], "pipe", NULL), s = receiveFd(over[1], "socket", NULL);
    int k = receiveFd(over[1], "kept", NULL);
    struct ucred sender = {0};
    int g = receiveFd(gram[1], "gram", &sender);
    equal(sender.pid, getpid());
    equal(read(f, text, 3), 3);
    check(!memcmp(text, "345", 3) && lseek(f, 3, SEEK_SET) == 3);
    equal(read(p, text, 64), 11);
    equal(read(s, text, 64), 6);
    check(!memcmp(text, "inside", 6) && write(s, "!", 1) == 1 && read(inner[0], text, 1) == 1);
    check(lseek(k, 1, SEEK_CUR) >= 0);
    equal(lseek(kept, 0, SEEK_CUR), lseek(g, 0, SEEK_CUR));
    check(lseek(kept, 0, SEEK_SET) == 0);
    check(write(pipeEnds[1], "in the pipe", 11) == 11 && write(inner[0], "inside", 6) == 6);
    sendFd(over[0], f, "file");
    sendFd(over[0], p, "pipe");
    sendFd(over[0], s, "socket");
    sendFd(over[0], kept, "kept");
    sendFd(gram[0], kept, "gram");
    close(f), close(p), close(s), close(k), close(g);
    ok();
  }
}
