// UDP over IPv6: queued datagrams with their senders, connected, options, a group joined.
#include "program.h"
#include "network.h"
#include <arpa/inet.h>

static struct sockaddr_in6 at(int port) {
  return (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
}

static int bound(int port) {
  struct sockaddr_in6 a = at(port);
  int s = socket(AF_INET6, SOCK_DGRAM, 0);
  check(s >= 0 && !bind(s, (void*)&a, sizeof a));
  return s;
}

static void takes(int s, const char* text, int port) {
  char back[100];
  struct sockaddr_in6 from;
  socklen_t n = sizeof from;
  ssize_t r = recvfrom(s, back, sizeof back, MSG_DONTWAIT, (void*)&from, &n);
  if (r != (ssize_t)strlen(text) || memcmp(back, text, r)) fail("%zd bytes, not %s", r, text);
  equal(ntohs(from.sin6_port), port);
}

int main(void) {
  int receiver, sender, connected, hops = 9, on = 1, v;
  loopbackUp();
  receiver = bound(5001), sender = bound(5002), connected = bound(5003);
  struct sockaddr_in6 to = at(5001);
  check(!connect(connected, (void*)&to, sizeof to));
  check(!setsockopt(sender, IPPROTO_IPV6, IPV6_UNICAST_HOPS, &hops, sizeof hops));
  check(!setsockopt(receiver, IPPROTO_IPV6, IPV6_RECVPKTINFO, &on, sizeof on));
  check(!setsockopt(sender, SOL_SOCKET, SO_BROADCAST, &on, sizeof on));
  check(sendto(sender, "one", 3, 0, (void*)&to, sizeof to) == 3 && send(connected, "", 0, 0) == 0);
  check(send(connected, "second", 6, 0) == 6 && sendto(sender, "", 0, 0, (void*)&to, sizeof to) == 0);
  begin();
  for (;;) {
    next();
    takes(receiver, "one", 5002);
    takes(receiver, "", 5003);
    takes(receiver, "second", 5003);
    takes(receiver, "", 5002);
    char c;
    check(recv(receiver, &c, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN);
    check(sendto(sender, "one", 3, 0, (void*)&to, sizeof to) == 3 && send(connected, "", 0, 0) == 0);
    check(send(connected, "second", 6, 0) == 6 && sendto(sender, "", 0, 0, (void*)&to, sizeof to) == 0);
    socklen_t n = sizeof v;
    check(!getsockopt(sender, IPPROTO_IPV6, IPV6_UNICAST_HOPS, &v, &n) && v == hops);
    check(!getsockopt(receiver, IPPROTO_IPV6, IPV6_RECVPKTINFO, &v, &n) && v == 1);
    check(!getsockopt(sender, SOL_SOCKET, SO_BROADCAST, &v, &n) && v == 1);
    struct sockaddr_in6 peer;
    n = sizeof peer;
    check(!getpeername(connected, (void*)&peer, &n) && ntohs(peer.sin6_port) == 5001);
    ok();
  }
}
