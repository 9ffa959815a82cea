// Options of sockets over IPv4 and IPv6 that servers set.
#include "program.h"
#include "network.h"
#include "options.h"

// In the order of asm-generic/socket.h, linux/in.h, linux/in6.h, linux/udp.h: some are newer than the C library's headers.
// The priority comes last: IP_TOS changes it.
static struct option four[] = {
    {1, 5, 1, 0},   {1, 7, 70000, 0}, {1, 8, 90000, 0}, {1, 11, 1, 0},   {1, 18, 3, 0},  {1, 35, 1, 0},  {1, 36, 9, 0},
    {1, 37, 85, 0}, {1, 40, 1, 0},    {1, 42, 4, 0},    {1, 46, 50, 0}, {1, 47, 1000000, 0}, {1, 60, 1, 0}, {1, 69, 1, 0}, {1, 75, 1, 0},
    {0, 1, 16, 0},  {0, 2, 33, 0},    {0, 7, 1, 0},     {0, 8, 1, 0},  {0, 10, 2, 0},  {0, 11, 1, 0},  {0, 12, 1, 0},  {0, 13, 1, 0},
    {0, 20, 1, 0},  {0, 21, 20, 0},   {0, 23, 1, 0},    {0, 25, 1, 0}, {0, 51, 2000 << 16 | 1000, 0}, {17, 103, 1000, 0}, {17, 104, 1, 0},
    {1, 12, 5, 0},
};
static struct option six[] = {
    {1, 12, 5, 0},  {1, 46, 50, 0}, {41, 16, 44, 0}, {41, 23, 2, 0}, {41, 25, 1, 0}, {41, 29, 1, 0}, {41, 33, 1, 0}, {41, 49, 1, 0},
    {41, 51, 1, 0}, {41, 53, 1, 0}, {41, 58, 1, 0},  {41, 60, 1, 0}, {41, 62, 1, 0}, {41, 66, 1, 0}, {41, 67, 32, 0}, {41, 72, 0x402, 0},
    {41, 73, 20, 0},
};
#define COUNT(options) (sizeof options / sizeof *options)

int main(void) {
  loopbackUp();
  int a = socket(AF_INET, SOCK_DGRAM, 0), b = socket(AF_INET6, SOCK_DGRAM, 0);
  struct sockaddr_in four4 = {.sin_family = AF_INET, .sin_port = htons(6101)};
  struct sockaddr_in6 six6 = {.sin6_family = AF_INET6, .sin6_port = htons(6102)};
  check(!bind(a, (void*)&four4, sizeof four4) && !bind(b, (void*)&six6, sizeof six6));
  setAll(a, four, COUNT(four));
  setAll(b, six, COUNT(six));
  begin();
  for (;;) {
    next();
    areAll(a, four, COUNT(four));
    areAll(b, six, COUNT(six));
    ok();
  }
}
