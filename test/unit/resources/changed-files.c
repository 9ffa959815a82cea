// Does with its descriptors what its standard input says, and answers "ok" and the numbers of what it opened.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <unistd.h>

#define CHECK(condition)                                                           \
  do {                                                                             \
    if (!(condition)) {                                                            \
      fprintf(stderr, "line %d: %s: %s\n", __LINE__, #condition, strerror(errno)); \
      exit(1);                                                                     \
    }                                                                              \
  } while (0)

static char bytes[4096];

static int listening(int backlog) {
  int s = socket(AF_INET, SOCK_STREAM, 0);
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  CHECK(bind(s, (void*)&at, sizeof at) == 0 && listen(s, backlog) == 0);
  return s;
}

static int joined(int listener) {
  struct sockaddr_in at;
  socklen_t length = sizeof at;
  int s = socket(AF_INET, SOCK_STREAM, 0);
  CHECK(getsockname(listener, (void*)&at, &length) == 0 && connect(s, (void*)&at, length) == 0);
  return s;
}

// Under a number of its own.
static int as(int fd, int number) {
  if (fd == number) return fd;
  CHECK(dup2(fd, number) == number);
  close(fd);
  return number;
}

int main(int argc, char** argv) {
  char line[128], what[32];
  int on = 1;
  while (fgets(line, sizeof line, stdin)) {
    long a = 0, b = 0, c = 0, d = 0;
    sscanf(line, "%31s %ld %ld %ld %ld", what, &a, &b, &c, &d);
    struct epoll_event event = {.events = c, .data.u64 = d};
    int fds[2] = {-1, -1};
#define IS(name) (strcmp(what, name) == 0)
    if (IS("connect")) {
      int listener = listening(1);
      fds[0] = joined(listener), fds[1] = accept(listener, NULL, NULL);
      setsockopt(fds[0], IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
      // An acknowledgement is no matter of a timer then.
      setsockopt(fds[1], IPPROTO_TCP, TCP_QUICKACK, &on, sizeof on);
      close(listener);
    } else if (IS("listen")) fds[0] = listening(a);
    else if (IS("join")) fds[0] = joined(a);
    else if (IS("backlog")) CHECK(listen(a, b) == 0);
    else if (IS("write")) CHECK(write(a, bytes, b) == b);
    else if (IS("read")) CHECK(read(a, bytes, b) == b);
    else if (IS("shutdown")) CHECK(shutdown(a, b) == 0);
    else if (IS("cork")) {
      int off = 0;
      CHECK(setsockopt(a, IPPROTO_TCP, TCP_NODELAY, &off, sizeof off) == 0);
      CHECK(setsockopt(a, IPPROTO_TCP, TCP_CORK, &on, sizeof on) == 0);
    } else if (IS("keepalive")) CHECK(setsockopt(a, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on) == 0);
    else if (IS("nonblock")) CHECK(fcntl(a, F_SETFL, fcntl(a, F_GETFL) | O_NONBLOCK) == 0);
    else if (IS("cloexec")) CHECK(fcntl(a, F_SETFD, FD_CLOEXEC) == 0);
    else if (IS("close")) close(a);
    else if (IS("reset")) {
      struct linger none = {1, 0};
      CHECK(setsockopt(a, SOL_SOCKET, SO_LINGER, &none, sizeof none) == 0 && close(a) == 0);
    } else if (IS("error")) {
      int error;
      socklen_t length = sizeof error;
      CHECK(getsockopt(a, SOL_SOCKET, SO_ERROR, &error, &length) == 0 && error == b);
    }
    else if (IS("socket")) fds[0] = as(socket(AF_INET, SOCK_STREAM, 0), a);
    else if (IS("again")) {
      close(a);
      int s = socket(AF_INET, SOCK_STREAM, 0);
      CHECK(s >= 0);
      fds[0] = as(s, a);
    } else if (IS("pipe")) {
      CHECK(pipe(fds) == 0);
      fds[0] = as(fds[0], a);
    } else if (IS("eventfd")) fds[0] = as(eventfd(0, EFD_NONBLOCK), a);
    else if (IS("file")) fds[0] = as(open(argv[argc - 1], O_RDWR | O_CREAT, 0600), a);
    else if (IS("count")) {
      unsigned long long count = b;
      CHECK(write(a, &count, 8) == 8);
    } else if (IS("seek")) CHECK(lseek(a, b, SEEK_SET) == b);
    else if (IS("lock")) CHECK(flock(a, LOCK_EX) == 0);
    else if (IS("many")) {
      for (long i = 0; i < b; i++) as(eventfd(i, 0), a + i);
    } else if (IS("none")) {
      for (long i = 0; i < b; i++) close(a + i);
    } else if (IS("epoll")) fds[0] = as(epoll_create1(0), a);
    else if (IS("watch")) CHECK(epoll_ctl(a, EPOLL_CTL_ADD, b, &event) == 0);
    else if (IS("change")) CHECK(epoll_ctl(a, EPOLL_CTL_MOD, b, &event) == 0);
    else if (IS("leave")) CHECK(epoll_ctl(a, EPOLL_CTL_DEL, b, NULL) == 0);
    else if (IS("wait")) CHECK(epoll_wait(a, &event, 1, 0) == 1);
    else if (IS("twin")) CHECK(dup2(a, b) == b);
    else CHECK(!"a command");
    printf("ok");
    for (int i = 0; i < 2 && fds[i] >= 0; i++) printf(" %d", fds[i]);
    printf("\n");
    fflush(stdout);
  }
  return 0;
}
