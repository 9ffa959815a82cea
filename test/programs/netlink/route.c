// A route socket: its port, its groups, options; it answers, and hears of changes.
#include "program.h"
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#ifndef SOL_NETLINK
#define SOL_NETLINK 270
#endif

int main(void) {
  int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE), on = 1;
  struct sockaddr_nl a = {.nl_family = AF_NETLINK, .nl_pid = 12345, .nl_groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR}, b;
  check(!bind(fd, (void*)&a, sizeof a));
  check(!setsockopt(fd, SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof on));
  int dump = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
  begin();
  for (unsigned round = 1;; round++) {
    next();
    socklen_t n = sizeof b;
    check(!getsockname(fd, (void*)&b, &n) && b.nl_pid == 12345 && b.nl_groups == a.nl_groups);
    int value = 0;
    n = sizeof value;
    check(!getsockopt(fd, SOL_NETLINK, NETLINK_EXT_ACK, &value, &n) && value == 1);
    struct {
      struct nlmsghdr h;
      struct rtgenmsg g;
    } ask = {.h = {.nlmsg_len = NLMSG_LENGTH(sizeof ask.g), .nlmsg_type = RTM_GETLINK, .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP, .nlmsg_seq = round}};
    check(send(dump, &ask, ask.h.nlmsg_len, 0) == ask.h.nlmsg_len);
    static char bytes[65536];
    for (int done = 0; !done;) {
      ssize_t got = recv(dump, bytes, sizeof bytes, 0);
      check(got > 0);
      for (struct nlmsghdr* h = (void*)bytes; NLMSG_OK(h, got); h = NLMSG_NEXT(h, got)) {
        equal(h->nlmsg_seq, round);
        if (h->nlmsg_type == NLMSG_DONE) done = 1;
      }
    }
    ok();
  }
}
