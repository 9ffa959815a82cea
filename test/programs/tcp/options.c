// Options of a listening socket, which its connections inherit, and of a connection; over IPv6 as well.
#include "program.h"
#include "network.h"
#include "options.h"
#include <netinet/tcp.h>

#define BOTH                                                                                                                            \
  {1, 5, 1, 0}, {1, 9, 1, 0}, {1, 18, 3, 0}, {1, 35, 1, 0}, {1, 36, 9, 0}, {1, 37, 85, 0}, {1, 46, 50, 0}, {1, 47, 1000000, 0}, \
      {1, 60, 1, 0}, {1, 69, 1, 0}, {6, 1, 1, 0}, {6, 4, 100, 0}, {6, 5, 11, 0}, {6, 6, 4, 0}, {6, 8, 20, 0}, {6, 18, 12345, 0},           \
      {6, 25, 5000, 0}, {6, 36, 1, 0}, {6, 16, 1, 0}
#define FOUR {0, 1, 16, 0}, {0, 2, 33, 0}, {0, 8, 1, 0}, {0, 10, 2, 0}, {0, 11, 1, 0}, {0, 21, 20, 0}, {1, 12, 5, 0}
static struct option listening[] = {BOTH, FOUR, {6, 2, 1000, 0}, {6, 3, 1, 0}, {6, 7, 3, 0}, {6, 9, 3, 0}, {6, 10, 20000, 0}, {6, 27, 1, 0}};
static struct option connected[] = {BOTH, FOUR, {1, 42, 4, 0}};
static struct option six[] = {BOTH,          {41, 16, 44, 0}, {41, 23, 2, 0},  {41, 25, 1, 0},     {41, 33, 1, 0}, {41, 49, 1, 0},
                              {41, 51, 1, 0}, {41, 66, 1, 0},  {41, 67, 32, 0}, {41, 72, 0x402, 0}, {41, 73, 20, 0}};
#define COUNT(options) (sizeof options / sizeof *options)

int main(void) {
  loopbackUp();
  int plain = socket(AF_INET, SOCK_STREAM, 0), a = socket(AF_INET, SOCK_STREAM, 0), b = socket(AF_INET6, SOCK_STREAM, 0);
  int c = socket(AF_INET, SOCK_STREAM, 0);
  struct sockaddr_in first = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(6201)};
  struct sockaddr_in second = {.sin_family = AF_INET, .sin_port = htons(6202)};
  struct sockaddr_in6 third = {.sin6_family = AF_INET6, .sin6_port = htons(6203)};
  check(!bind(plain, (void*)&first, sizeof first) && !listen(plain, 5));
  check(!bind(a, (void*)&second, sizeof second) && !bind(b, (void*)&third, sizeof third));
  check(!connect(c, (void*)&first, sizeof first));
  int d = accept(plain, NULL, NULL);
  setAll(a, listening, COUNT(listening));
  setAll(b, six, COUNT(six));
  setAll(c, connected, COUNT(connected));
  check(!listen(a, 5) && !listen(b, 5));
  check(write(d, "what waits", 10) == 10);
  begin();
  for (;;) {
    next();
    // Multipath TCP looks absent, in every life.
    check(socket(AF_INET, SOCK_STREAM, 262) < 0);
    char bytes[20];
    areAll(a, listening, COUNT(listening));
    areAll(b, six, COUNT(six));
    areAll(c, connected, COUNT(connected));
    int offset = -1;
    check(!setsockopt(c, SOL_SOCKET, 42, &offset, sizeof offset) || connected[COUNT(connected) - 1].name == 0);
    equal(read(c, bytes, sizeof bytes), 10);
    check(!memcmp(bytes, "what waits", 10));
    offset = 4;
    check(!setsockopt(c, SOL_SOCKET, 42, &offset, sizeof offset) || connected[COUNT(connected) - 1].name == 0);
    check(write(d, "what waits", 10) == 10);
    ok();
  }
}
