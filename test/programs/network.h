// What test programs with sockets share.
#ifndef NETWORK_H
#define NETWORK_H
#include <net/if.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

static void loopbackUp(void) {
  struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP};
  int s = socket(AF_INET, SOCK_DGRAM, 0);
  check(!ioctl(s, SIOCSIFFLAGS, &request));
  close(s);
}

#endif
