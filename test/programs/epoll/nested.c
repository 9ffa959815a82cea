// epoll in epoll, edge-triggered, one-shot, with its data; an edge that was told is not told again, one that was not is.
#include "program.h"
#include <sys/epoll.h>
#include <sys/eventfd.h>

static int wait1(int ep, uint64_t* data) {
  struct epoll_event e;
  int n = epoll_wait(ep, &e, 1, 0);
  if (n == 1) *data = e.data.u64;
  return n;
}

static void add(int ep, int fd, uint32_t events, uint64_t data) {
  struct epoll_event e = {.events = events, .data.u64 = data};
  check(!epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e));
}

int main(void) {
  int outer = epoll_create1(0), middle = epoll_create1(0), inner = epoll_create1(0);
  int level = eventfd(0, EFD_NONBLOCK), edge = eventfd(0, EFD_NONBLOCK), once = eventfd(1, EFD_NONBLOCK);
  int edges = epoll_create1(0), onces = epoll_create1(0);
  uint64_t one = 1, got, data;
  add(inner, level, EPOLLIN, 0x1122334455667788);
  add(middle, inner, EPOLLIN, 2);
  add(outer, middle, EPOLLIN, 3);
  add(edges, edge, EPOLLIN | EPOLLET, 4);
  add(onces, once, EPOLLIN | EPOLLONESHOT, 5);
  equal(wait1(onces, &data), 1);
  begin();
  for (;;) {
    next();
    equal(wait1(outer, &data), 0);
    check(write(level, &one, 8) == 8);
    equal(wait1(outer, &data), 1);
    equal(data, 3);
    equal(wait1(middle, &data), 1);
    equal(data, 2);
    equal(wait1(inner, &data), 1);
    check(data == 0x1122334455667788);
    check(read(level, &got, 8) == 8);
    equal(wait1(outer, &data), 0);
    check(write(edge, &one, 8) == 8);
    equal(wait1(edges, &data), 1);
    equal(data, 4);
    equal(wait1(edges, &data), 0);
    check(read(edge, &got, 8) == 8);
    equal(got, 1);
    equal(wait1(onces, &data), 0);
    struct epoll_event again = {.events = EPOLLIN | EPOLLONESHOT, .data.u64 = 6};
    check(!epoll_ctl(onces, EPOLL_CTL_MOD, once, &again));
    equal(wait1(onces, &data), 1);
    equal(data, 6);
    equal(wait1(onces, &data), 0);
    ok();
  }
}
