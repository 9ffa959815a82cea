// Pipes as full as the kernel lets them get: of every size, by packets of one byte, by pages that have room left, by pages of files
// and of memory (splice, vmsplice), by fragments larger than a page, by plain writes and packets mixed.
#include "program.h"
#include "network.h"
#include <poll.h>
#include <sys/uio.h>

enum { LARGE = 1 << 22 };
static char data[LARGE], back[LARGE], gift[1 << 20] __attribute__((aligned(4096)));

struct full {
  int ends[2], size, is;
  // Bytes of each write; 0: of all sizes.
  size_t piece;
  int packets;
  size_t bytes;
  int writes;
};

static size_t pieceOf(struct full* one) { return one->piece ? one->piece : 1 + one->writes * 577u % 4096; }

static void fillUp(struct full* one) {
  int flags = fcntl(one->ends[1], F_GETFL);
  check(!fcntl(one->ends[1], F_SETFL, flags | O_NONBLOCK));
  one->bytes = one->writes = 0;
  for (;; one->writes++) {
    ssize_t n = write(one->ends[1], data + one->bytes, pieceOf(one));
    if (n < 0) break;
    one->bytes += n;
  }
  equal(errno, EAGAIN);
  check(!fcntl(one->ends[1], F_SETFL, flags));
}

static void isFull(struct full* one) {
  struct pollfd p = {one->ends[1], POLLOUT, 0};
  equal(fcntl(one->ends[1], F_GETPIPE_SZ), one->is);
  int n;
  check(!ioctl(one->ends[0], FIONREAD, &n));
  equal(n, one->bytes);
  if (one->packets || one->piece == 4096) equal(poll(&p, 1, 0), 0);
}

static void takeAll(struct full* one) {
  size_t at = 0;
  int writes = one->writes;
  for (one->writes = 0; at < one->bytes; one->writes++) {
    ssize_t n = read(one->ends[0], back, sizeof back);
    check(n > 0 && !memcmp(back, data + at, n));
    if (one->packets) equal(n, pieceOf(one));
    at += n;
  }
  if (one->packets) equal(one->writes, writes);
  equal(at, one->bytes);
}

// Fragments of a TCP connection lie in a pipe as they came, up to 32 KiB in one place of it.
static size_t spliceFromNetwork(int writer) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t length = sizeof address;
  int listener = socket(AF_INET, SOCK_STREAM, 0), client = socket(AF_INET, SOCK_STREAM, 0);
  check(!bind(listener, (void*)&address, length) && !listen(listener, 1) && !getsockname(listener, (void*)&address, &length));
  check(!connect(client, (void*)&address, length));
  int server = accept(listener, NULL, NULL);
  size_t sent = 0, moved = 0;
  for (int quiet = 0; quiet < 20; quiet++) {
    ssize_t n = send(client, data + sent, sent < LARGE - 400000 ? 300000 : 0, MSG_DONTWAIT);
    if (n > 0) sent += n, quiet = 0;
    n = splice(server, NULL, writer, NULL, LARGE, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
    if (n > 0) moved += n, quiet = 0;
    sleepMs(1);
  }
  close(client);
  close(server);
  close(listener);
  return moved;
}

static void takeBytes(int reader, const char* expected, size_t bytes) {
  int n;
  check(!ioctl(reader, FIONREAD, &n));
  equal(n, bytes);
  for (size_t at = 0; at < bytes;) {
    ssize_t got = read(reader, back, sizeof back);
    check(got > 0 && !memcmp(back, expected + at, got));
    at += got;
  }
}

int main(void) {
  static struct full all[64];
  int sizes[] = {0, 4096, 8192, 1 << 18}, count = 0;
  size_t pieces[] = {1, 0, 4095, 4096, 2049};
  loopbackUp();
  for (size_t i = 0; i < sizeof data; i++) data[i] = i * 131 >> 3;
  for (int s = 0; s < 4; s++)
    for (int p = 0; p < 5; p++)
      for (int packets = 0; packets < 2; packets++) {
        struct full* one = &all[count++];
        *one = (struct full){.piece = pieces[p], .packets = packets};
        check(!pipe2(one->ends, (packets ? O_DIRECT : 0) | (p % 2 ? O_NONBLOCK : 0)));
        if (sizes[s]) check(fcntl(one->ends[0], F_SETPIPE_SZ, sizes[s]) == sizes[s]);
        one->is = fcntl(one->ends[0], F_GETPIPE_SZ);
        fillUp(one);
      }
  // Room that is taken away as far as it can be.
  struct full smaller = {.piece = 4096};
  check(!pipe2(smaller.ends, 0) && fcntl(smaller.ends[0], F_SETPIPE_SZ, 1 << 20) == 1 << 20);
  check(write(smaller.ends[1], data, 8192) == 8192 && fcntl(smaller.ends[0], F_SETPIPE_SZ, 8192) == 8192);
  smaller.bytes = smaller.is = 8192;
  // Pages of memory, with little in each.
  int given[2];
  check(!pipe2(given, O_NONBLOCK));
  size_t givenBytes = 0;
  for (;; givenBytes += 10) {
    memcpy(gift + givenBytes / 10 * 4096, data + givenBytes, 10);
    struct iovec vector = {gift + givenBytes / 10 * 4096, 10};
    if (vmsplice(given[1], &vector, 1, SPLICE_F_NONBLOCK) < 0) break;
  }
  equal(errno, EAGAIN);
  int network[2], small[2];
  check(!pipe2(network, 0) && !pipe2(small, O_NONBLOCK));
  check(fcntl(small[0], F_SETPIPE_SZ, 4096) == 4096);
  size_t networkBytes = spliceFromNetwork(network[1]), smallBytes = spliceFromNetwork(small[1]);
  check(networkBytes > 65536);
  // Plain writes with packets behind them: a read ends behind a packet.
  int mixed[2];
  check(!pipe2(mixed, 0) && write(mixed[1], data, 8192) == 8192);
  check(!fcntl(mixed[1], F_SETFL, O_DIRECT) && write(mixed[1], data, 5) == 5 && write(mixed[1], data, 7) == 7);
  begin();
  for (int round = 0;; round++) {
    next();
    for (int i = 0; i < count; i++) {
      isFull(&all[i]);
      takeAll(&all[i]);
      fillUp(&all[i]);
    }
    takeBytes(network[0], data, networkBytes);
    takeBytes(small[0], data, smallBytes);
    // What lay closer than by pages has got more room.
    check(fcntl(network[0], F_GETPIPE_SZ) >= 65536 && fcntl(small[0], F_GETPIPE_SZ) >= 4096);
    check(fcntl(network[0], F_SETPIPE_SZ, 65536) == 65536 && fcntl(small[0], F_SETPIPE_SZ, 4096) == 4096);
    networkBytes = spliceFromNetwork(network[1]);
    smallBytes = spliceFromNetwork(small[1]);
    // Behind the first life as a clone.
    if (round == 3) {
      isFull(&smaller);
      takeAll(&smaller);
      takeBytes(given[0], data, givenBytes);
      smaller.bytes = 0;
    }
    equal(read(mixed[0], back, sizeof back), 8197);
    check(!memcmp(back, data, 8192) && !memcmp(back + 8192, data, 5));
    equal(read(mixed[0], back, 3), 3);
    check(!fcntl(mixed[1], F_SETFL, 0) && write(mixed[1], data, 8192) == 8192);
    check(!fcntl(mixed[1], F_SETFL, O_DIRECT) && write(mixed[1], data, 5) == 5 && write(mixed[1], data, 7) == 7);
    ok();
  }
}
