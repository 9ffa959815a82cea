// IPv6 and mapped IPv4 on loopback: content, half-closed either way, urgent data, options, listeners with both families.
#include "program.h"
#include "network.h"
#include <arpa/inet.h>
#include <netinet/tcp.h>

static int listener;
static struct sockaddr_in6 here;

static void pairOf(int v4, int ends[2]) {
  if (v4) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = here.sin6_port, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    ends[0] = socket(AF_INET, SOCK_STREAM, 0);
    check(!connect(ends[0], (void*)&a, sizeof a));
  } else {
    struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_port = here.sin6_port, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    ends[0] = socket(AF_INET6, SOCK_STREAM, 0);
    check(!connect(ends[0], (void*)&a, sizeof a));
  }
  ends[1] = accept(listener, NULL, NULL);
  check(ends[1] >= 0);
}

static void says(int from, int to, const char* text) {
  char back[64];
  size_t n = strlen(text);
  check(write(from, text, n) == (ssize_t)n);
  for (size_t got = 0; got < n;) {
    ssize_t r = read(to, back + got, n - got);
    check(r > 0);
    got += r;
  }
  check(!memcmp(back, text, n));
}

static int value(int s, int level, int name) {
  int v = -1;
  socklen_t n = sizeof v;
  check(!getsockopt(s, level, name, &v, &n));
  return v;
}

int main(void) {
  loopbackUp();
  int off = 0, on = 1, class = 0x20, hops = 33, inlineOn = 1, lowWater = 7, userTimeout = 54321;
  listener = socket(AF_INET6, SOCK_STREAM, 0);
  here = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_ANY_INIT};
  socklen_t n = sizeof here;
  check(!setsockopt(listener, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off));
  check(!bind(listener, (void*)&here, sizeof here) && !listen(listener, 9) && !getsockname(listener, (void*)&here, &n));
  int six[2], four[2], half[2], inlined[2];
  pairOf(0, six), pairOf(1, four), pairOf(0, half), pairOf(0, inlined);
  check(!setsockopt(six[0], IPPROTO_IPV6, IPV6_TCLASS, &class, sizeof class));
  check(!setsockopt(six[0], IPPROTO_IPV6, IPV6_UNICAST_HOPS, &hops, sizeof hops));
  check(!setsockopt(six[0], IPPROTO_TCP, TCP_USER_TIMEOUT, &userTimeout, sizeof userTimeout));
  check(!setsockopt(six[1], SOL_SOCKET, SO_RCVLOWAT, &lowWater, sizeof lowWater));
  check(!setsockopt(four[1], SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on));
  check(!setsockopt(inlined[1], SOL_SOCKET, SO_OOBINLINE, &inlineOn, sizeof inlineOn));
  struct linger l = {1, 17};
  check(!setsockopt(four[0], SOL_SOCKET, SO_LINGER, &l, sizeof l));
  check(!shutdown(half[0], SHUT_WR));
  check(write(inlined[0], "ab", 2) == 2 && send(inlined[0], "c", 1, MSG_OOB) == 1);
  begin();
  for (;;) {
    char back[16];
    next();
    says(six[0], six[1], "over six");
    says(six[1], six[0], "and back!");
    says(four[0], four[1], "mapped");
    says(four[1], four[0], "and back");
    equal(read(half[1], back, 1), 0);
    says(half[1], half[0], "one way");
    equal(value(six[0], IPPROTO_IPV6, IPV6_TCLASS), class);
    equal(value(six[0], IPPROTO_IPV6, IPV6_UNICAST_HOPS), hops);
    equal(value(six[0], IPPROTO_TCP, TCP_USER_TIMEOUT), userTimeout);
    equal(value(six[1], SOL_SOCKET, SO_RCVLOWAT), lowWater);
    equal(value(four[1], SOL_SOCKET, SO_KEEPALIVE), 1);
    equal(value(listener, IPPROTO_IPV6, IPV6_V6ONLY), 0);
    struct linger now;
    n = sizeof now;
    check(!getsockopt(four[0], SOL_SOCKET, SO_LINGER, &now, &n) && now.l_onoff == 1 && now.l_linger == 17);
    struct sockaddr_in6 peer;
    n = sizeof peer;
    check(!getpeername(four[1], (void*)&peer, &n) && IN6_IS_ADDR_V4MAPPED(&peer.sin6_addr));
    for (size_t got = 0; got < 3;) {
      ssize_t r = read(inlined[1], back + got, 3 - got);
      check(r > 0);
      got += r;
    }
    check(!memcmp(back, "abc", 3));
    check(write(inlined[0], "ab", 2) == 2 && send(inlined[0], "c", 1, MSG_OOB) == 1);
    int extra[2];
    pairOf(0, extra);
    says(extra[0], extra[1], "a new one");
    close(extra[0]), close(extra[1]);
    ok();
  }
}
