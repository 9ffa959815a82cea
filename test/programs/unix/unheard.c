// Data on unix connections that nobody has accepted: of clients that stay, that said their end, that have gone; short and long.
#include "program.h"
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

enum { big = 150000 };
static char data[big], back[big + 1];

static void setAddress(struct sockaddr_un* a, socklen_t* n, const char* name) {
  memset(a, 0, sizeof *a);
  a->sun_family = AF_UNIX;
  strcpy(a->sun_path + 1, name);
  *n = offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name);
}

static int listenAt(const char* name, int type) {
  struct sockaddr_un a;
  socklen_t n;
  setAddress(&a, &n, name);
  int fd = socket(AF_UNIX, type, 0);
  check(fd >= 0 && !bind(fd, (void*)&a, n) && !listen(fd, 8));
  return fd;
}

static int connectTo(const char* name, int type) {
  struct sockaddr_un a;
  socklen_t n;
  setAddress(&a, &n, name);
  int fd = socket(AF_UNIX, type, 0);
  check(fd >= 0 && !connect(fd, (void*)&a, n));
  return fd;
}

static void hear(int fd, const char* text, size_t bytes) {
  for (size_t got = 0; got < bytes;) {
    ssize_t n = read(fd, back + got, bytes - got);
    if (n <= 0) fail("read gave %zd after %zu bytes", n, got);
    got += n;
  }
  check(!memcmp(back, text, bytes));
}

static int stream, packets, ends[5];

static void speak(void) {
  int one = 1 << 20;
  ends[0] = connectTo("unheard-stream", SOCK_STREAM);
  check(write(ends[0], "one", 3) == 3 && write(ends[0], "two", 3) == 3);
  ends[1] = connectTo("unheard-stream", SOCK_STREAM);
  check(!setsockopt(ends[1], SOL_SOCKET, SO_SNDBUF, &one, sizeof one));
  check(write(ends[1], data, big) == big && !shutdown(ends[1], SHUT_WR));
  int gone = connectTo("unheard-stream", SOCK_STREAM);
  check(write(gone, "farewell", 8) == 8);
  close(gone);
  ends[2] = connectTo("unheard-stream", SOCK_STREAM);
  ends[3] = connectTo("unheard-packets", SOCK_SEQPACKET);
  check(write(ends[3], "first", 5) == 5 && write(ends[3], "second", 6) == 6);
}

static void listenToAll(void) {
  int fd = accept(stream, NULL, NULL);
  hear(fd, "onetwo", 6);
  check(write(fd, "heard", 5) == 5);
  hear(ends[0], "heard", 5);
  struct ucred peer;
  socklen_t n = sizeof peer;
  check(!getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n));
  equal(peer.pid, getpid());
  close(fd);
  fd = accept(stream, NULL, NULL);
  hear(fd, data, big);
  equal(read(fd, back, 1), 0);
  close(fd);
  fd = accept(stream, NULL, NULL);
  hear(fd, "farewell", 8);
  equal(read(fd, back, 1), 0);
  close(fd);
  fd = accept4(stream, NULL, NULL, SOCK_NONBLOCK);
  equal(read(fd, back, 1), -1);
  equal(errno, EAGAIN);
  check(write(ends[2], "late", 4) == 4);
  hear(fd, "late", 4);
  close(fd);
  fd = accept(packets, NULL, NULL);
  equal(read(fd, back, 100), 5);
  equal(read(fd, back, 100), 6);
  check(!memcmp(back, "second", 6));
  close(fd);
  for (int i = 0; i < 4; i++) close(ends[i]);
}

int main(void) {
  fill(data, sizeof data, 3);
  stream = listenAt("unheard-stream", SOCK_STREAM);
  packets = listenAt("unheard-packets", SOCK_SEQPACKET);
  speak();
  begin();
  for (;;) {
    next();
    listenToAll();
    speak();
    ok();
  }
}
