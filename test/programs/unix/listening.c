// Listening sockets by file, by relative file and by abstract name: accepted connections, those who wait, new ones.
#include "program.h"
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

static socklen_t address(struct sockaddr_un* a, const char* name, int abstract) {
  memset(a, 0, sizeof *a);
  a->sun_family = AF_UNIX;
  strcpy(a->sun_path + abstract, name);
  return offsetof(struct sockaddr_un, sun_path) + abstract + strlen(name) + !abstract;
}

static int listenAt(const char* name, int abstract, int type) {
  struct sockaddr_un a;
  socklen_t n = address(&a, name, abstract);
  int fd = socket(AF_UNIX, type, 0);
  if (!abstract) unlink(name);
  check(fd >= 0 && !bind(fd, (void*)&a, n) && !listen(fd, 5));
  return fd;
}

static int connectTo(const char* name, int abstract, int type) {
  struct sockaddr_un a;
  socklen_t n = address(&a, name, abstract);
  int fd = socket(AF_UNIX, type, 0);
  check(fd >= 0 && !connect(fd, (void*)&a, n));
  return fd;
}

static void talk(int a, int b) {
  char c;
  check(write(a, "?", 1) == 1 && read(b, &c, 1) == 1 && c == '?');
  check(write(b, "!", 1) == 1 && read(a, &c, 1) == 1 && c == '!');
}

static void isNamed(int fd, const char* name, int abstract) {
  struct sockaddr_un want, have;
  socklen_t n = address(&want, name, abstract), m = sizeof have;
  check(!getsockname(fd, (void*)&have, &m));
  equal(m, n);
  check(!memcmp(&want, &have, n));
}

int main(void) {
  struct stat s, t;
  mkdir("/tmp/unix", 0755);
  check(!chdir("/tmp/unix"));
  int file = listenAt("/tmp/unix/file", 0, SOCK_STREAM), relative = listenAt("relative", 0, SOCK_SEQPACKET);
  int abstract = listenAt("understudy-name", 1, SOCK_STREAM);
  check(!chmod("/tmp/unix/file", 0620) && !chown("/tmp/unix/file", 7, 8));
  int client = connectTo("/tmp/unix/file", 0, SOCK_STREAM), served = accept(file, NULL, NULL);
  int byName = connectTo("understudy-name", 1, SOCK_STREAM), servedByName = accept(abstract, NULL, NULL);
  int old = listenAt("/tmp/unix/old", 0, SOCK_STREAM), oldClient = connectTo("/tmp/unix/old", 0, SOCK_STREAM);
  int oldServed = accept(old, NULL, NULL);
  close(old);
  unlink("/tmp/unix/old");
  int first = connectTo("/tmp/unix/file", 0, SOCK_STREAM), second = connectTo("/tmp/unix/file", 0, SOCK_STREAM);
  close(connectTo("relative", 0, SOCK_SEQPACKET));
  pid_t child = fork();
  if (!child) {
    int own = connectTo("understudy-name", 1, SOCK_STREAM);
    char c;
    while (read(own, &c, 1) == 1)
      if (write(own, &c, 1) != 1) _exit(1);
    _exit(0);
  }
  int ofChild = accept(abstract, NULL, NULL);
  begin();
  for (int round = 1;; round++) {
    next();
    talk(client, served);
    talk(byName, servedByName);
    talk(oldClient, oldServed);
    isNamed(served, "/tmp/unix/file", 0);
    isNamed(relative, "relative", 0);
    isNamed(servedByName, "understudy-name", 1);
    isNamed(oldServed, "/tmp/unix/old", 0);
    check(stat("/tmp/unix/old", &s) && errno == ENOENT);
    check(!stat("/tmp/unix/file", &s) && S_ISSOCK(s.st_mode) && (s.st_mode & 0777) == 0620 && s.st_uid == 7 && s.st_gid == 8);
    check(!fstat(file, &t) && S_ISSOCK(t.st_mode));
    int a = accept(file, NULL, NULL), b = accept(file, NULL, NULL);
    talk(first, a);
    talk(second, b);
    close(a), close(b), close(first), close(second);
    int dead = accept(relative, NULL, NULL);
    char c;
    check(dead >= 0 && read(dead, &c, 1) == 0);
    close(dead);
    first = connectTo("file", 0, SOCK_STREAM), second = connectTo("/tmp/unix/file", 0, SOCK_STREAM);
    close(connectTo("relative", 0, SOCK_SEQPACKET));
    check(write(ofChild, "c", 1) == 1 && read(ofChild, &c, 1) == 1 && c == 'c');
    struct ucred peer;
    socklen_t n = sizeof peer;
    check(!getsockopt(ofChild, SOL_SOCKET, SO_PEERCRED, &peer, &n));
    equal(peer.pid, child);
    n = sizeof peer;
    check(!getsockopt(byName, SOL_SOCKET, SO_PEERCRED, &peer, &n));
    equal(peer.pid, getpid());
    ok();
  }
}
