// Options of stream and datagram sockets; a filter that lets through what is long.
#include "program.h"
#include "options.h"
#include <linux/filter.h>

static struct option stream[] = {{1, 10, 1, 0}, {1, 12, 5, 0}, {1, 16, 1, 0}, {1, 18, 3, 0}, {1, 29, 1, 0},
                                 {1, 34, 1, 0}, {1, 36, 9, 0}, {1, 40, 1, 0}, {1, 76, 1, 0}};
static struct option datagram[] = {{1, 35, 1, 0}, {1, 37, 16, 0}, {1, 36, 7, 0}};
#define COUNT(options) (sizeof options / sizeof *options)

int main(void) {
  int a[2], b[2];
  char bytes[20];
  check(!socketpair(AF_UNIX, SOCK_STREAM, 0, a) && !socketpair(AF_UNIX, SOCK_DGRAM, 0, b));
  setAll(a[0], stream, COUNT(stream));
  setAll(b[0], datagram, COUNT(datagram));
  struct sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_LEN, 0),
      BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, 4, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, 0xffff),
      BPF_STMT(BPF_RET | BPF_K, 0),
  };
  struct sock_fprog program = {4, code};
  check(!setsockopt(b[0], SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program));
  begin();
  for (;;) {
    next();
    areAll(a[0], stream, COUNT(stream));
    areAll(b[0], datagram, COUNT(datagram));
    send(b[1], "no", 2, MSG_DONTWAIT);
    equal(send(b[1], "longer", 6, MSG_DONTWAIT), 6);
    equal(recv(b[0], bytes, sizeof bytes, MSG_DONTWAIT), 6);
    ok();
  }
}
