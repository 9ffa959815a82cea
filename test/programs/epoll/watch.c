// Level and edge triggered, one-shot spent and armed, nested, a duplicate that is watched, data words.
#include "program.h"
#include <sys/epoll.h>
#include <sys/eventfd.h>

static int epoll;

static uint32_t wait1(int at, uint64_t* data) {
  struct epoll_event e;
  int n = epoll_wait(at, &e, 1, 0);
  if (n != 1) return 0;
  *data = e.data.u64;
  return e.events;
}

static int watched(uint32_t events, uint64_t data) {
  int fd = eventfd(0, EFD_NONBLOCK);
  struct epoll_event e = {events, {.u64 = data}};
  check(!epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e));
  return fd;
}

static void post(int fd) {
  uint64_t one = 1;
  check(write(fd, &one, 8) == 8);
}
static void take(int fd) {
  uint64_t n;
  check(read(fd, &n, 8) == 8);
}

int main(void) {
  epoll = epoll_create1(EPOLL_CLOEXEC);
  int level = watched(EPOLLIN, 0x1122334455667788ull);
  int once = watched(EPOLLIN | EPOLLONESHOT, 2);
  int edge = watched(EPOLLIN | EPOLLET, 3);
  int outer = epoll_create1(0);
  struct epoll_event inner = {EPOLLIN, {.u64 = 99}};
  check(!epoll_ctl(outer, EPOLL_CTL_ADD, epoll, &inner));
  uint64_t data = 0;
  // The one-shot is spent.
  post(once);
  check(wait1(epoll, &data) && data == 2);
  begin();
  for (;;) {
    next();
    check(!wait1(epoll, &data));
    check(!wait1(outer, &data));
    post(level);
    check(wait1(outer, &data) && data == 99);
    check(wait1(epoll, &data) && data == 0x1122334455667788ull);
    check(wait1(epoll, &data) && data == 0x1122334455667788ull);
    take(level);
    check(!wait1(epoll, &data));
    post(edge);
    check(wait1(epoll, &data) && data == 3);
    check(!wait1(epoll, &data));
    take(edge);
    struct epoll_event e = {EPOLLIN | EPOLLONESHOT, {.u64 = 2}};
    check(!epoll_ctl(epoll, EPOLL_CTL_MOD, once, &e));
    check(wait1(epoll, &data) && data == 2);
    check(!wait1(epoll, &data));
    ok();
  }
}
