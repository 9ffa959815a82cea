// Connections to itself over loopback: with content both ways, flags and options, ended by one side; the listener goes on.
#include "program.h"
#include "network.h"
#include <netinet/tcp.h>

static char data[100000], back[200000];

static int option(int s, int level, int name) {
  int value = 0;
  socklen_t length = sizeof value;
  check(!getsockopt(s, level, name, &value, &length));
  return value;
}

static void set(int s, int level, int name, int value) { check(!setsockopt(s, level, name, &value, sizeof value)); }

static void readAll(int s, size_t bytes) {
  for (size_t n = 0; n < bytes;) {
    ssize_t r = read(s, back + n, bytes - n);
    check(r > 0);
    n += r;
  }
  check(!memcmp(back, data, bytes));
}

int main(void) {
  loopbackUp();
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), ends[3][2];
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t length = sizeof address;
  fill(data, sizeof data, 4);
  set(listener, SOL_SOCKET, SO_REUSEADDR, 1);
  check(!bind(listener, (void*)&address, sizeof address) && !listen(listener, 7));
  check(!getsockname(listener, (void*)&address, &length));
  for (int i = 0; i < 3; i++) {
    ends[i][0] = socket(AF_INET, SOCK_STREAM, 0);
    check(!connect(ends[i][0], (void*)&address, sizeof address));
    ends[i][1] = accept4(listener, NULL, NULL, i == 1 ? SOCK_NONBLOCK : 0);
    check(ends[i][1] >= 0);
  }
  set(ends[0][1], IPPROTO_TCP, TCP_NODELAY, 1);
  set(ends[0][1], SOL_SOCKET, SO_KEEPALIVE, 1);
  set(ends[0][1], IPPROTO_TCP, TCP_KEEPIDLE, 33);
  check(write(ends[0][0], data, sizeof data) == sizeof data);
  check(!shutdown(ends[2][0], SHUT_WR));
  begin();
  for (;;) {
    next();
    readAll(ends[0][1], sizeof data);
    check(write(ends[0][1], data, sizeof data) == sizeof data);
    readAll(ends[0][0], sizeof data);
    check(write(ends[0][0], data, sizeof data) == sizeof data);
    equal(option(ends[0][1], IPPROTO_TCP, TCP_NODELAY), 1);
    equal(option(ends[0][1], IPPROTO_TCP, TCP_KEEPIDLE), 33);
    equal(option(ends[0][1], SOL_SOCKET, SO_REUSEADDR), option(listener, SOL_SOCKET, SO_REUSEADDR));
    check(fcntl(ends[1][1], F_GETFL) & O_NONBLOCK && !(fcntl(ends[1][0], F_GETFL) & O_NONBLOCK));
    equal(read(ends[1][1], back, 1), -1);
    equal(errno, EAGAIN);
    equal(read(ends[2][1], back, 1), 0);
    check(write(ends[2][1], "half", 4) == 4);
    equal(read(ends[2][0], back, 100), 4);
    int extra = socket(AF_INET, SOCK_STREAM, 0);
    check(!connect(extra, (void*)&address, sizeof address));
    int accepted = accept(listener, NULL, NULL);
    check(accepted >= 0 && fcntl(listener, F_GETFD) == FD_CLOEXEC);
    close(extra);
    close(accepted);
    ok();
  }
}
