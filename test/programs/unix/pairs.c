// Connected pairs: what is in their queues, packets, a half closed one, one whose peer is gone, buffers, a child that answers.
#include "program.h"
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>

static char data[100000], back[200000];

static int bytesIn(int fd) {
  int n;
  check(!ioctl(fd, FIONREAD, &n));
  return n;
}

int main(void) {
  int stream[2], big[2], gram[2], packet[2], half[2], gone[2], child[2];
  fill(data, sizeof data, 5);
  check(!socketpair(AF_UNIX, SOCK_STREAM, 0, stream) && !socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, big));
  check(!socketpair(AF_UNIX, SOCK_DGRAM, 0, gram) && !socketpair(AF_UNIX, SOCK_SEQPACKET, 0, packet));
  check(!socketpair(AF_UNIX, SOCK_STREAM, 0, half) && !socketpair(AF_UNIX, SOCK_STREAM, 0, gone));
  check(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, child));
  struct timeval patience = {7, 250000};
  check(!setsockopt(stream[0], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience));
  int room = 65536, ask;
  socklen_t size = sizeof ask;
  check(!setsockopt(stream[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof room));
  check(write(stream[0], "hello", 5) == 5 && write(stream[0], " there", 6) == 6 && write(stream[1], "back", 4) == 4);
  check(write(big[1], data, sizeof data) == sizeof data);
  check(write(gram[0], "one", 3) == 3 && write(gram[0], "seven77", 7) == 7);
  check(write(packet[1], "packet", 6) == 6 && write(packet[1], data, 70000) == 70000 && write(packet[1], "z", 1) == 1);
  check(write(half[0], "last words", 10) == 10 && !shutdown(half[0], SHUT_WR));
  check(write(gone[0], "inheritance", 11) == 11);
  close(gone[0]);
  pid_t me = getpid();
  if (!fork()) {
    close(child[0]);
    for (int n; read(child[1], &n, sizeof n) == sizeof n;) {
      n *= 3;
      if (write(child[1], &n, sizeof n) != sizeof n) _exit(1);
    }
    _exit(0);
  }
  close(child[1]);
  begin();
  for (int round = 1;; round++) {
    next();
    equal(bytesIn(stream[1]), 11);
    equal(read(stream[1], back, 100), 11);
    check(!memcmp(back, "hello there", 11));
    equal(read(stream[0], back, 100), 4);
    check(write(stream[0], "hello", 5) == 5 && write(stream[0], " there", 6) == 6 && write(stream[1], "back", 4) == 4);
    equal(bytesIn(big[0]), sizeof data);
    equal(read(big[0], back, sizeof back), sizeof data);
    check(!memcmp(back, data, sizeof data));
    equal(read(big[0], back, 1), -1);
    equal(errno, EAGAIN);
    check(write(big[1], data, sizeof data) == sizeof data);
    equal(read(gram[1], back, 100), 3);
    equal(read(gram[1], back, 100), 7);
    check(write(gram[0], "one", 3) == 3 && write(gram[0], "seven77", 7) == 7);
    equal(recv(gram[1], back, 1, MSG_PEEK), 1);
    equal(read(packet[0], back, sizeof back), 6);
    equal(read(packet[0], back, sizeof back), 70000);
    check(!memcmp(back, data, 70000));
    equal(read(packet[0], back, sizeof back), 1);
    check(write(packet[1], "packet", 6) == 6 && write(packet[1], data, 70000) == 70000 && write(packet[1], "z", 1) == 1);
    if (round == 5) {
      equal(read(half[1], back, 100), 10);
      equal(read(half[1], back, 100), 0);
      equal(read(gone[1], back, 100), 11);
      equal(read(gone[1], back, 100), 0);
    }
    equal(send(half[0], "x", 1, MSG_NOSIGNAL), -1);
    equal(errno, EPIPE);
    check(write(half[1], "ok", 2) == 2 && read(half[0], back, 2) == 2);
    equal(send(gone[1], "x", 1, MSG_NOSIGNAL), -1);
    equal(errno, EPIPE);
    check(!getsockopt(stream[0], SOL_SOCKET, SO_SNDBUF, &ask, &size));
    equal(ask, 2 * room);
    struct timeval found;
    size = sizeof found;
    check(!getsockopt(stream[0], SOL_SOCKET, SO_RCVTIMEO, &found, &size));
    check(found.tv_sec == 7 && llabs((long long)found.tv_usec - patience.tv_usec) < 20000);
    struct ucred peer;
    size = sizeof peer;
    check(!getsockopt(child[0], SOL_SOCKET, SO_PEERCRED, &peer, &size));
    equal(peer.pid, me);
    check(fcntl(child[0], F_GETFD) == FD_CLOEXEC && !(fcntl(stream[0], F_GETFL) & O_NONBLOCK));
    int n = round;
    check(write(child[0], &n, sizeof n) == sizeof n && read(child[0], &n, sizeof n) == sizeof n);
    equal(n, 3 * round);
    size = sizeof ask;
    ok();
  }
}
