// Connections that are closed with bytes left to send: the other end gets every byte and the end, in the order of things.
#include "program.h"
#include "network.h"
#include <arpa/inet.h>

enum { most = 400000 };
static unsigned char data[most], back[most + 1];

static int listener;
static struct sockaddr_in address = {.sin_family = AF_INET};

// Returns the end that reads; its other end is closed, `owed` bytes behind. With `half` the reader has said its end before.
static int closedOne(size_t* owed, int half, int big) {
  int one = 1 << 20, small = 4096;
  int reader = socket(AF_INET, SOCK_STREAM, 0);
  check(!setsockopt(reader, SOL_SOCKET, SO_RCVBUF, &small, sizeof small));
  check(!connect(reader, (void*)&address, sizeof address));
  int writer = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
  check(writer >= 0 && !setsockopt(writer, SOL_SOCKET, SO_SNDBUF, &one, sizeof one));
  if (half) check(!shutdown(reader, SHUT_WR));
  if (half) equal(read(writer, back, 1), 0);
  ssize_t n = write(writer, data, big ? most : 3000);
  check(n > 0);
  *owed = n;
  close(writer);
  return reader;
}

static void takeAll(int reader, size_t owed) {
  size_t got = 0;
  for (ssize_t n; (n = read(reader, back + got, sizeof back - got)) != 0; got += n)
    if (n < 0) fail("read after %zu of %zu bytes", got, owed);
  equal(got, owed);
  check(!memcmp(back, data, owed));
  close(reader);
}

int main(void) {
  loopbackUp();
  fill(data, sizeof data, 9);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  listener = socket(AF_INET, SOCK_STREAM, 0);
  check(!bind(listener, (void*)&address, sizeof address) && !listen(listener, 8));
  check(!getsockname(listener, (void*)&address, &length));
  int readers[4];
  size_t owed[4];
  for (int i = 0; i < 4; i++) readers[i] = closedOne(&owed[i], i & 1, i & 2);
  begin();
  for (;;) {
    next();
    for (int i = 0; i < 4; i++) takeAll(readers[i], owed[i]);
    for (int i = 0; i < 4; i++) readers[i] = closedOne(&owed[i], i & 1, i & 2);
    ok();
  }
}
