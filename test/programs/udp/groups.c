// Multicast: groups joined over IPv4 and IPv6, all sources or chosen ones, how far and whether to itself what is sent; what comes in a
// group is heard, also by nobody who has left it. A filter on a socket, that nobody may take off again.
#include "program.h"
#include "network.h"
#include <arpa/inet.h>
#include <linux/filter.h>

static int bound(int port) {
  int fd = socket(AF_INET, SOCK_DGRAM, 0), on = 1;
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
  check(!setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
  check(!bind(fd, (void*)&a, sizeof a));
  return fd;
}

static struct ip_mreqn group(const char* address) {
  return (struct ip_mreqn){.imr_multiaddr.s_addr = inet_addr(address), .imr_ifindex = 1};
}

static void sendTo(int fd, const char* address, int port, const char* text) {
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = inet_addr(address)};
  equal(sendto(fd, text, strlen(text), 0, (void*)&a, sizeof a), strlen(text));
}

static void hears(int fd, const char* text) {
  char bytes[100];
  ssize_t n = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);
  if (text == NULL) equal(n, -1);
  else {
    equal(n, strlen(text));
    check(!memcmp(bytes, text, n));
  }
}

static int option(int fd, int level, int name) {
  int value = 0;
  socklen_t n = sizeof value;
  check(!getsockopt(fd, level, name, &value, &n));
  return value;
}

int main(void) {
  loopbackUp();
  int all = bound(6001), chosen = bound(6002), sender = bound(6003), filtered = bound(6004), six = socket(AF_INET6, SOCK_DGRAM, 0);
  struct ip_mreqn one = group("239.1.2.3"), own = {.imr_ifindex = 1, .imr_address.s_addr = htonl(INADDR_LOOPBACK)};
  check(!setsockopt(all, IPPROTO_IP, IP_ADD_MEMBERSHIP, &one, sizeof one));
  const char* sources[] = {"127.0.0.1", "127.0.0.9"};
  for (int i = 0; i < 2; i++) {
    struct ip_mreq_source source = {.imr_multiaddr.s_addr = inet_addr("239.1.2.4"), .imr_interface.s_addr = htonl(INADDR_LOOPBACK)};
    source.imr_sourceaddr.s_addr = inet_addr(sources[i]);
    check(!setsockopt(chosen, IPPROTO_IP, IP_ADD_SOURCE_MEMBERSHIP, &source, sizeof source));
  }
  int no = 0, yes = 1, far = 7;
  check(!setsockopt(all, IPPROTO_IP, IP_MULTICAST_ALL, &no, sizeof no));
  check(!setsockopt(sender, IPPROTO_IP, IP_MULTICAST_IF, &own, sizeof own));
  check(!setsockopt(sender, IPPROTO_IP, IP_MULTICAST_TTL, &far, sizeof far));
  struct ipv6_mreq sixth = {.ipv6mr_interface = 1};
  check(inet_pton(AF_INET6, "ff01::1234", &sixth.ipv6mr_multiaddr) == 1);
  check(!setsockopt(six, IPPROTO_IPV6, IPV6_JOIN_GROUP, &sixth, sizeof sixth));
  // Only what is longer than a head and four bytes.
  struct sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_LEN, 0),
      BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, 12, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, 0xffff),
      BPF_STMT(BPF_RET | BPF_K, 0),
  };
  struct sock_fprog program = {4, code};
  check(!setsockopt(filtered, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program));
  check(!setsockopt(filtered, SOL_SOCKET, SO_LOCK_FILTER, &yes, sizeof yes));
  begin();
  for (;;) {
    next();
    sendTo(sender, "239.1.2.3", 6001, "to all");
    hears(all, "to all");
    sendTo(sender, "239.1.2.9", 6001, "not joined");
    hears(all, NULL);
    sendTo(sender, "239.1.2.4", 6002, "of a chosen one");
    hears(chosen, "of a chosen one");
    sendTo(sender, "127.0.0.1", 6004, "no");
    hears(filtered, NULL);
    sendTo(sender, "127.0.0.1", 6004, "longer");
    hears(filtered, "longer");
    equal(setsockopt(filtered, SOL_SOCKET, SO_DETACH_FILTER, &no, sizeof no), -1);
    equal(errno, EPERM);
    equal(option(sender, IPPROTO_IP, IP_MULTICAST_TTL), 7);
    // Joined already.
    equal(setsockopt(all, IPPROTO_IP, IP_ADD_MEMBERSHIP, &one, sizeof one), -1);
    equal(errno, EADDRINUSE);
    equal(setsockopt(six, IPPROTO_IPV6, IPV6_JOIN_GROUP, &sixth, sizeof sixth), -1);
    equal(errno, EADDRINUSE);
    check(!setsockopt(six, IPPROTO_IPV6, IPV6_LEAVE_GROUP, &sixth, sizeof sixth));
    check(!setsockopt(six, IPPROTO_IPV6, IPV6_JOIN_GROUP, &sixth, sizeof sixth));
    ok();
  }
}
