// Datagram sockets with names: connected and not, waiting datagrams with their senders, a name whose file is gone.
#include "program.h"
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

static socklen_t address(struct sockaddr_un* a, const char* name) {
  memset(a, 0, sizeof *a);
  a->sun_family = AF_UNIX;
  strcpy(a->sun_path, name);
  return offsetof(struct sockaddr_un, sun_path) + strlen(name) + 1;
}

static int boundTo(const char* name) {
  struct sockaddr_un a;
  int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
  unlink(name);
  socklen_t n = address(&a, name);
  check(fd >= 0 && !bind(fd, (void*)&a, n));
  return fd;
}

static void sendTo(int fd, const char* name, const char* text) {
  struct sockaddr_un a;
  socklen_t n = address(&a, name);
  equal(sendto(fd, text, strlen(text), 0, (void*)&a, n), strlen(text));
}

static void receive(int fd, const char* text, const char* from) {
  char bytes[100];
  struct sockaddr_un a, want;
  socklen_t n = sizeof a, wanted = from ? address(&want, from) : 0;
  equal(recvfrom(fd, bytes, sizeof bytes, MSG_DONTWAIT, (void*)&a, &n), strlen(text));
  check(!memcmp(bytes, text, strlen(text)));
  equal(n, wanted);
  if (from) check(!memcmp(&a, &want, n));
}

int main(void) {
  int server = boundTo("/tmp/d-server"), client = boundTo("/tmp/d-client"), nameless = socket(AF_UNIX, SOCK_DGRAM, 0);
  int gone = boundTo("/tmp/d-gone"), toGone = socket(AF_UNIX, SOCK_DGRAM, 0), connected = socket(AF_UNIX, SOCK_DGRAM, 0);
  struct sockaddr_un a;
  socklen_t n = address(&a, "/tmp/d-gone");
  check(!connect(toGone, (void*)&a, n));
  unlink("/tmp/d-gone");
  n = address(&a, "/tmp/d-server");
  check(!connect(connected, (void*)&a, n));
  sendTo(client, "/tmp/d-server", "from the client");
  sendTo(nameless, "/tmp/d-server", "from nobody");
  check(write(connected, "from the connected", 18) == 18);
  begin();
  for (;;) {
    next();
    receive(server, "from the client", "/tmp/d-client");
    receive(server, "from nobody", NULL);
    receive(server, "from the connected", NULL);
    sendTo(client, "/tmp/d-server", "from the client");
    sendTo(nameless, "/tmp/d-server", "from nobody");
    check(write(connected, "from the connected", 18) == 18);
    check(write(toGone, "to the gone", 11) == 11);
    receive(gone, "to the gone", NULL);
    check(access("/tmp/d-gone", F_OK) && errno == ENOENT);
    sendTo(server, "/tmp/d-client", "answer");
    receive(client, "answer", "/tmp/d-server");
    ok();
  }
}
