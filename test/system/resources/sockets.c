// TCP sockets with what cannot be copied: `sockets filter|keys`.
#include "program.h"
#include "network.h"
#include <arpa/inet.h>
#include <linux/filter.h>
#include <netinet/tcp.h>

int main(int count, char** args) {
  check(count == 2);
  loopbackUp();
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(6301)};
  struct sock_filter code[] = {BPF_STMT(BPF_RET | BPF_K, 0xffff)};
  struct sock_fprog program = {1, code};
  struct tcp_md5sig key = {.tcpm_keylen = 3, .tcpm_key = "key"};
  struct sockaddr_in peer = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  memcpy(&key.tcpm_addr, &peer, sizeof peer);
  if (!strcmp(args[1], "filter")) check(!setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program));
  if (!strcmp(args[1], "keys")) check(!setsockopt(fd, IPPROTO_TCP, TCP_MD5SIG, &key, sizeof key));
  check(!bind(fd, (void*)&address, sizeof address) && !listen(fd, 5));
  begin();
  for (;;) {
    next();
    ok();
  }
}
