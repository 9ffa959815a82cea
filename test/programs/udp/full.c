// UDP sockets whose queues are as full as the kernel lets them get: IPv4 and IPv6, many small datagrams and few large ones, small and
// large buffers, buffers made smaller once they were full, senders that have gone and senders with hardly any room themselves.
#include "program.h"
#include "network.h"

static char block[65507], back[65536];

struct full {
  int receiver, sender, domain, buffer, smaller, is;
  size_t piece;
  unsigned messages;
};

static void setBuffer(int fd, int which, int bytes) { check(!setsockopt(fd, SOL_SOCKET, which, &bytes, sizeof bytes)); }

static int bufferOf(int fd) {
  int bytes;
  socklen_t length = sizeof bytes;
  check(!getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, &length));
  return bytes;
}

static size_t pieceOf(struct full* one, unsigned i) { return one->piece ? one->piece : 4 + i * 977 % 3000; }

static void give(size_t bytes, unsigned number) {
  for (size_t i = 0; i < bytes; i++) block[i] = number * 31 + i * 7;
  if (bytes >= sizeof number) memcpy(block, &number, sizeof number);
}

// What the receiver has no room for is dropped; so much more is sent than it can take.
static void overfill(struct full* one) {
  size_t room = one->is * 2 + 100000;
  for (unsigned i = 0; room > 0; i++) {
    size_t bytes = pieceOf(one, i);
    give(bytes, i);
    check(send(one->sender, block, bytes, 0) == (ssize_t)bytes);
    room = room > bytes + 200 ? room - bytes - 200 : 0;
  }
}

// Those that wait, once; they are without gaps as long as the queue is not emptied meanwhile.
static unsigned takeAll(struct full* one) {
  unsigned last = 0, taken = 0;
  for (;; taken++) {
    ssize_t n = recv(one->receiver, back, sizeof back, MSG_DONTWAIT);
    if (n < 0) break;
    unsigned number = 0;
    memcpy(&number, back, one->piece == 1 ? 1 : 4);
    if (one->piece == 1) number = taken;
    if (taken > 0) check(number > last);
    last = number;
    if (n != (ssize_t)pieceOf(one, number)) fail("datagram %u has %zd bytes", number, n);
    give(n, number);
    if (one->piece != 1) check(!memcmp(back, block, n));
  }
  equal(errno, EAGAIN);
  return taken;
}

static void openBoth(struct full* one) {
  struct sockaddr_in four = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
  void* address = one->domain == AF_INET ? (void*)&four : (void*)&six;
  socklen_t length = one->domain == AF_INET ? sizeof four : sizeof six;
  one->receiver = socket(one->domain, SOCK_DGRAM, 0);
  one->sender = socket(one->domain, SOCK_DGRAM, 0);
  check(!bind(one->receiver, address, length) && !bind(one->sender, address, length));
  check(!getsockname(one->receiver, address, &length) && !connect(one->sender, address, length));
}

// How many of them wait, by looks that take none: the same number is to be there in every life.
static unsigned count(int fd) {
  int offset = 0, none = -1;
  unsigned found = 0;
  check(!setsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &offset, sizeof offset));
  for (; recv(fd, back, sizeof back, MSG_PEEK | MSG_DONTWAIT) > 0; found++) continue;
  check(!setsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &none, sizeof none));
  return found;
}

int main(void) {
  static struct full all[64];
  loopbackUp();
  int number = 0, buffers[] = {0, 1, 40000, 1 << 18};
  size_t pieces[] = {1, 0, 1400, 60000};
  for (int d = 0; d < 2; d++)
    for (int p = 0; p < 4; p++)
      for (int b = 0; b < 4; b++) {
        struct full* one = &all[number++];
        *one = (struct full){.domain = d ? AF_INET6 : AF_INET, .piece = pieces[p], .buffer = buffers[b], .smaller = p % 2};
        openBoth(one);
        if (one->buffer) setBuffer(one->receiver, SO_RCVBUF, one->buffer);
        one->is = bufferOf(one->receiver);
        overfill(one);
        if (one->smaller) setBuffer(one->receiver, SO_RCVBUF, 3000);
        setBuffer(one->sender, SO_SNDBUF, 1);
        if (b == 2) close(one->sender);
        one->is = bufferOf(one->receiver);
        one->messages = count(one->receiver);
        check(one->messages > 0);
      }
  // IPv4 at a socket of IPv6, of one who has gone.
  struct full mapped = {.domain = AF_INET6, .piece = 1400};
  struct sockaddr_in6 any = {.sin6_family = AF_INET6}, from;
  struct sockaddr_in four = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t length = sizeof any;
  mapped.receiver = socket(AF_INET6, SOCK_DGRAM, 0);
  mapped.sender = socket(AF_INET, SOCK_DGRAM, 0);
  check(!bind(mapped.receiver, (void*)&any, length) && !getsockname(mapped.receiver, (void*)&any, &length));
  four.sin_port = any.sin6_port;
  check(!connect(mapped.sender, (void*)&four, sizeof four));
  mapped.is = bufferOf(mapped.receiver);
  overfill(&mapped);
  close(mapped.sender);
  mapped.messages = count(mapped.receiver);
  begin();
  for (int round = 0;; round++) {
    next();
    for (int i = 0; i < number; i++) {
      struct full* one = &all[i];
      equal(bufferOf(one->receiver), one->is);
      unsigned there = count(one->receiver);
      if (there != one->messages) fail("%u datagrams of %u (pieces of %zu, buffer %d)", there, one->messages, one->piece, one->buffer);
      if (one->buffer == 40000) {
        if (round == 4) one->messages = takeAll(one) * 0;
        continue;
      }
      equal(takeAll(one), one->messages);
      setBuffer(one->sender, SO_SNDBUF, 200000);
      setBuffer(one->receiver, SO_RCVBUF, one->buffer ? one->buffer : 106496);
      one->is = bufferOf(one->receiver);
      overfill(one);
      if (one->smaller) setBuffer(one->receiver, SO_RCVBUF, 3000);
      setBuffer(one->sender, SO_SNDBUF, 1);
      one->is = bufferOf(one->receiver);
      one->messages = count(one->receiver);
    }
    equal(count(mapped.receiver), mapped.messages);
    length = sizeof from;
    check(recvfrom(mapped.receiver, back, sizeof back, MSG_PEEK, (void*)&from, &length) > 0 && IN6_IS_ADDR_V4MAPPED(&from.sin6_addr));
    ok();
  }
}
