// UDP over IPv4 and IPv6: bound, connected, what waits, empty ones too, with its senders, options.
#include "program.h"
#include "network.h"
#include <arpa/inet.h>

// An IPv4 address as IPv6 sockets see it: the loopback interface may have no other.
static const struct in6_addr mapped = {{{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 127, 0, 0, 1}}};

static int bound(int family, int port) {
  int fd = socket(family, SOCK_DGRAM, 0);
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  struct sockaddr_in6 b = {.sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = mapped};
  if (family == AF_INET) check(!bind(fd, (void*)&a, sizeof a));
  else check(!bind(fd, (void*)&b, sizeof b));
  return fd;
}

static void sendTo(int fd, int family, int port, const char* text) {
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  struct sockaddr_in6 b = {.sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = mapped};
  void* to = family == AF_INET ? (void*)&a : (void*)&b;
  equal(sendto(fd, text, strlen(text), 0, to, family == AF_INET ? sizeof a : sizeof b), strlen(text));
}

static void receive(int fd, const char* text, int port) {
  char bytes[100];
  struct sockaddr_in6 from;
  socklen_t n = sizeof from;
  equal(recvfrom(fd, bytes, sizeof bytes, MSG_DONTWAIT, (void*)&from, &n), strlen(text));
  check(!memcmp(bytes, text, strlen(text)));
  if (port) equal(ntohs(from.sin6_port), port);
}

int main(void) {
  loopbackUp();
  int server = bound(AF_INET, 5001), client = bound(AF_INET, 5002), six = bound(AF_INET6, 5003);
  int connected = bound(AF_INET, 5004), nameless = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0), on = 1, ttl = 42;
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(5001), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  check(!connect(connected, (void*)&a, sizeof a));
  check(!setsockopt(server, SOL_SOCKET, SO_BROADCAST, &on, sizeof on));
  check(!setsockopt(server, IPPROTO_IP, IP_TTL, &ttl, sizeof ttl));
  check(!setsockopt(server, IPPROTO_IP, IP_PKTINFO, &on, sizeof on));
  sendTo(client, AF_INET, 5001, "one");
  sendTo(client, AF_INET, 5001, "");
  sendTo(client, AF_INET, 5001, "second");
  check(write(connected, "third", 5) == 5);
  sendTo(six, AF_INET6, 5003, "");
  sendTo(six, AF_INET6, 5003, "to myself");
  sendTo(server, AF_INET, 5004, "answer");
  begin();
  for (;;) {
    next();
    receive(server, "one", 5002);
    receive(server, "", 5002);
    receive(server, "second", 5002);
    receive(server, "third", 5004);
    receive(six, "", 5003);
    receive(six, "to myself", 5003);
    receive(connected, "answer", 5001);
    char c;
    equal(recv(server, &c, 1, MSG_DONTWAIT), -1);
    equal(errno, EAGAIN);
    sendTo(client, AF_INET, 5001, "one");
    sendTo(client, AF_INET, 5001, "");
    sendTo(client, AF_INET, 5001, "second");
    check(write(connected, "third", 5) == 5);
    sendTo(six, AF_INET6, 5003, "");
    sendTo(six, AF_INET6, 5003, "to myself");
    sendTo(server, AF_INET, 5004, "answer");
    // From elsewhere: a connected one does not take it.
    sendTo(client, AF_INET, 5004, "not for you");
    int value;
    socklen_t n = sizeof value;
    check(!getsockopt(server, SOL_SOCKET, SO_BROADCAST, &value, &n) && value == 1);
    check(!getsockopt(server, IPPROTO_IP, IP_TTL, &value, &n) && value == 42);
    check(!getsockopt(server, IPPROTO_IP, IP_PKTINFO, &value, &n) && value == 1);
    check(!getsockopt(client, IPPROTO_IP, IP_TTL, &value, &n) && value != 42);
    check(fcntl(nameless, F_GETFL) & O_NONBLOCK);
    ok();
  }
}
