// Options of sockets, set to what nobody has by default, and to be found again as they were.
#ifndef OPTIONS_H
#define OPTIONS_H
#include <sys/socket.h>

struct option {
  int level, name, value;
  // As the socket has it.
  int is;
};

// Those that this kernel does not have are left out.
__attribute__((unused)) static void setAll(int fd, struct option* options, int count) {
  for (int i = 0; i < count; i++) {
    struct option* one = &options[i];
    if (!setsockopt(fd, one->level, one->name, &one->value, sizeof one->value)) continue;
    check(errno == ENOPROTOOPT || errno == EOPNOTSUPP);
    one->name = 0;
  }
  // Some change others.
  for (int i = 0; i < count; i++) {
    struct option* one = &options[i];
    socklen_t length = sizeof one->is;
    if (one->name != 0) check(!getsockopt(fd, one->level, one->name, &one->is, &length));
  }
}

__attribute__((unused)) static void areAll(int fd, const struct option* options, int count) {
  for (int i = 0; i < count; i++) {
    const struct option* one = &options[i];
    int value = 0;
    socklen_t length = sizeof value;
    if (one->name == 0) continue;
    check(!getsockopt(fd, one->level, one->name, &value, &length));
    if (value != one->is) fail("option %d of level %d is %d, not %d", one->name, one->level, value, one->is);
  }
}
#endif
