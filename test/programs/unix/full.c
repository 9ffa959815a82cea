// Unix sockets as full as the kernel lets them get: streams of single bytes and of large pieces, pairs of datagrams, queues of datagrams
// by number, buffers made smaller once they were full, connections as many as the backlog lets in, descriptors in flight by hundreds.
#include "program.h"
#include <poll.h>
#include <stddef.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

enum { LARGE = 1 << 20, MANY = 253, WAITERS = 64 };
static char block[LARGE], back[LARGE];
static int buffers[] = {0, 1, 65536, 1 << 19};

// How each message is made out of its number.
static void give(char* to, size_t bytes, unsigned number) {
  for (size_t i = 0; i < bytes; i++) to[i] = number * 31 + i * 7;
}

static void setBuffer(int fd, int bytes) { check(!setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes)); }

static int bufferOf(int fd) {
  int bytes;
  socklen_t length = sizeof bytes;
  check(!getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, &length));
  return bytes;
}

struct full {
  int fds[2], type, buffer, is, most, flags;
  size_t piece;
  unsigned messages;
  size_t bytes;
};

static size_t pieceOf(struct full* one, unsigned number) { return one->piece == 0 ? number % 3 : one->piece; }

// Sends until nothing more goes in.
static void fillUp(struct full* one) {
  for (;;) {
    size_t bytes = pieceOf(one, one->messages);
    if (one->type == SOCK_STREAM) {
      for (size_t i = 0; i < bytes; i++) block[i] = (one->bytes + i) * 131 >> 3;
    } else give(block, bytes, one->messages);
    ssize_t n = send(one->fds[0], block, bytes, MSG_DONTWAIT);
    if (n < 0) break;
    one->bytes += n;
    one->messages++;
    if (one->type != SOCK_STREAM) equal(n, bytes);
  }
  equal(errno, EAGAIN);
}

static void takeAll(struct full* one) {
  if (one->type == SOCK_STREAM) {
    for (size_t at = 0; at < one->bytes;) {
      ssize_t n = recv(one->fds[1], back, sizeof back, MSG_DONTWAIT);
      if (n <= 0) fail("after %zu of %zu bytes", at, one->bytes);
      for (ssize_t i = 0; i < n; i++)
        if (back[i] != (char)((at + i) * 131 >> 3)) fail("another byte at %zu", at + i);
      at += n;
    }
  } else
    for (unsigned i = 0; i < one->messages; i++) {
      size_t bytes = pieceOf(one, i);
      ssize_t n = recv(one->fds[1], back, sizeof back, MSG_DONTWAIT);
      if (n != (ssize_t)bytes) fail("message %u of %u, type %d, piece %zu: %zd bytes, not %zu", i, one->messages, one->type, one->piece, n, bytes);
      give(block, bytes, i);
      check(!memcmp(block, back, bytes));
    }
  equal(recv(one->fds[1], back, 1, MSG_DONTWAIT), -1);
  equal(errno, EAGAIN);
  one->bytes = one->messages = 0;
}

static struct sockaddr_un named(const char* name, socklen_t* length) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  strcpy(address.sun_path + 1, name);
  *length = offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name);
  return address;
}

static int bound(int type, const char* name) {
  socklen_t length;
  struct sockaddr_un address = named(name, &length);
  int fd = socket(AF_UNIX, type | (type == SOCK_DGRAM ? 0 : SOCK_NONBLOCK), 0);
  check(fd >= 0 && !bind(fd, (void*)&address, length));
  return fd;
}

static int tryConnect(int type, const char* name) {
  socklen_t length;
  struct sockaddr_un address = named(name, &length);
  int fd = socket(AF_UNIX, type | SOCK_NONBLOCK, 0);
  check(fd >= 0);
  if (!connect(fd, (void*)&address, length)) return fd;
  equal(errno, EAGAIN);
  close(fd);
  return -1;
}

// How many datagrams a socket takes that is made from now on.
static void setLimit(const char* limit) {
  int fd = open("/proc/sys/net/unix/max_dgram_qlen", O_WRONLY);
  check(fd >= 0 && write(fd, limit, strlen(limit)) == (ssize_t)strlen(limit));
  close(fd);
}

// Datagrams of one who is not talked back to: the receiver takes so many and no more.
static unsigned fillNumber(int sender) {
  unsigned n = 0;
  for (; send(sender, &n, sizeof n, MSG_DONTWAIT) == sizeof n; n++) continue;
  equal(errno, EAGAIN);
  return n;
}

static void takeNumber(int receiver, unsigned count) {
  for (unsigned i = 0; i < count; i++) {
    unsigned value = -1;
    equal(recv(receiver, &value, sizeof value, MSG_DONTWAIT), sizeof value);
    equal(value, i);
  }
  equal(recv(receiver, back, 1, MSG_DONTWAIT), -1);
}

// Each message has as many descriptors as there may be: of pipes, which tell who they are. More in all than a process may have open.
static unsigned passMany(int to, int* pipes) {
  unsigned sent = 0;
  for (; sent < 100; sent++) {
    union {
      char bytes[CMSG_SPACE(MANY * sizeof(int))];
      struct cmsghdr head;
    } control = {0};
    char byte = sent;
    struct iovec vector = {&byte, 1};
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    control.head.cmsg_level = SOL_SOCKET;
    control.head.cmsg_type = SCM_RIGHTS;
    control.head.cmsg_len = CMSG_LEN(MANY * sizeof(int));
    for (int i = 0; i < MANY; i++) ((int*)CMSG_DATA(&control.head))[i] = pipes[(i + sent) % 3];
    if (sendmsg(to, &message, MSG_DONTWAIT) < 0) break;
  }
  return sent;
}

static void takeMany(int from, unsigned count, const int* pipes) {
  for (unsigned j = 0; j < count; j++) {
    union {
      char bytes[CMSG_SPACE(MANY * sizeof(int))];
      struct cmsghdr head;
    } control;
    char byte;
    struct iovec vector = {&byte, 1};
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    equal(recvmsg(from, &message, MSG_DONTWAIT), 1);
    equal(byte, (char)j);
    equal(message.msg_flags, 0);
    equal(control.head.cmsg_len, CMSG_LEN(MANY * sizeof(int)));
    for (int i = 0; i < MANY; i++) {
      int fd = ((int*)CMSG_DATA(&control.head))[i];
      struct stat one, other;
      check(!fstat(fd, &one) && !fstat(pipes[(i + j) % 3], &other));
      equal(one.st_ino, other.st_ino);
      equal(fcntl(fd, F_GETFL) & O_ACCMODE, fcntl(pipes[(i + j) % 3], F_GETFL) & O_ACCMODE);
      close(fd);
    }
  }
}

// Waiters fill the backlog, each with what it has sent. Returns how many there are.
static int comeAll(int type, const char* name, int* waiters) {
  int count = 0;
  while ((waiters[count] = tryConnect(type, name)) >= 0) {
    while (send(waiters[count], &count, sizeof count, MSG_DONTWAIT) == sizeof count) continue;
    check(++count < WAITERS);
  }
  return count;
}

static void acceptAll(int listener, int count, int* waiters) {
  for (int i = 0; i < count; i++) {
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK), value;
    check(fd >= 0);
    int taken = 0;
    for (; recv(fd, &value, sizeof value, 0) == sizeof value; taken++) equal(value, i);
    check(taken > 10);
    check(send(fd, "welcome", 7, 0) == 7 && recv(waiters[i], back, 100, 0) == 7);
    close(fd);
    close(waiters[i]);
  }
  check(accept4(listener, NULL, NULL, SOCK_NONBLOCK) < 0);
}

int main(void) {
  static struct full all[64];
  int count = 0, types[] = {SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET};
  size_t pieces[] = {1, 0, 700, 30000};
  for (int t = 0; t < 3; t++)
    for (int p = 0; p < 4; p++)
      for (unsigned b = 0; b < sizeof buffers / sizeof *buffers; b++) {
        struct full* one = &all[count];
        if (types[t] == SOCK_STREAM ? pieces[p] == 0 : buffers[b] == 1 && pieces[p] > 4000) continue;
        *one = (struct full){.type = types[t], .buffer = buffers[b], .piece = pieces[p], .flags = (t + p + b) % 2 ? SOCK_NONBLOCK : 0};
        check(!socketpair(AF_UNIX, one->type | one->flags, 0, one->fds));
        if (one->buffer) setBuffer(one->fds[0], one->buffer);
        one->most = bufferOf(one->fds[0]) / 2;
        fillUp(one);
        // A buffer that is changed once it is full.
        if (b == 3 || b == 0) setBuffer(one->fds[0], 2048);
        one->is = bufferOf(one->fds[0]);
        count++;
      }
  setLimit("100");
  int receiver = bound(SOCK_DGRAM, "full receiver"), sender = tryConnect(SOCK_DGRAM, "full receiver");
  unsigned number = fillNumber(sender);
  equal(number, 101);
  setLimit("10");
  int gone = bound(SOCK_DGRAM, "full left"), leaver = tryConnect(SOCK_DGRAM, "full left");
  unsigned left = fillNumber(leaver);
  close(leaver);
  int listener = bound(SOCK_STREAM, "full stream"), packets = bound(SOCK_SEQPACKET, "full packets"), none = bound(SOCK_STREAM, "full none");
  check(!listen(listener, 20) && !listen(packets, 3) && !listen(none, 0));
  int waiters[3][WAITERS];
  int waiting[3] = {comeAll(SOCK_STREAM, "full stream", waiters[0]), comeAll(SOCK_SEQPACKET, "full packets", waiters[1]), comeAll(SOCK_STREAM, "full none", waiters[2])};
  equal(waiting[0], 21);
  equal(waiting[1], 4);
  equal(waiting[2], 1);
  int flight[2], pipes[2][2], passed[3];
  check(!socketpair(AF_UNIX, SOCK_SEQPACKET, 0, flight) && !pipe(pipes[0]) && !pipe(pipes[1]));
  memcpy(passed, (int[]){pipes[0][0], pipes[0][1], pipes[1][0]}, sizeof passed);
  unsigned messages = passMany(flight[0], passed);
  check(messages > 10);
  begin();
  for (int round = 0;; round++) {
    next();
    for (int i = 0; i < count; i++) {
      struct full* one = &all[i];
      equal(bufferOf(one->fds[0]), one->is);
      unsigned before = one->messages;
      // Streams are packed closer than they came.
      if (one->type != SOCK_STREAM) {
        equal(send(one->fds[0], "x", 1, MSG_DONTWAIT), -1);
        equal(errno, EAGAIN);
      }
      takeAll(one);
      setBuffer(one->fds[0], one->most);
      fillUp(one);
      if (one->type != SOCK_STREAM) equal(one->messages, before);
      setBuffer(one->fds[0], one->is / 2);
    }
    equal(send(sender, "x", 1, MSG_DONTWAIT), -1);
    takeNumber(receiver, number);
    equal(fillNumber(sender), number);
    // Behind the first life as a clone.
    if (round == 3) takeNumber(gone, left);
    acceptAll(listener, waiting[0], waiters[0]);
    acceptAll(packets, waiting[1], waiters[1]);
    acceptAll(none, waiting[2], waiters[2]);
    equal(comeAll(SOCK_STREAM, "full stream", waiters[0]), waiting[0]);
    equal(comeAll(SOCK_SEQPACKET, "full packets", waiters[1]), waiting[1]);
    equal(comeAll(SOCK_STREAM, "full none", waiters[2]), waiting[2]);
    takeMany(flight[1], messages, passed);
    equal(passMany(flight[0], passed), messages);
    ok();
  }
}
