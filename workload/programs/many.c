// Much of everything, idle until it is asked: many PROCESSES THREADS DESCRIPTORS. Serves any number of connections on port 7000:
// "add NAME" is answered with "NAME COUNT", COUNT being the connection's own; "check" looks at all there is: "fine COUNT".
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define CHECK(condition)                                                                \
  do {                                                                                  \
    if (!(condition)) {                                                                 \
      fprintf(stderr, "line %d: %s: %s\n", __LINE__, #condition, strerror(errno));      \
      exit(1);                                                                          \
    }                                                                                   \
  } while (0)

enum { MOST_DESCRIPTORS = 19000, LINE = 256 };
static int processes, threads, descriptors, checks;

// --- Processes: each counts the questions that it has had. ---

static int (*children)[2];

static void child(int in, int out) {
  uint32_t count = 0;
  for (char byte; read(in, &byte, 1) == 1;) {
    count++;
    CHECK(write(out, &count, sizeof count) == sizeof count);
  }
  _exit(0);
}

static void startProcesses(void) {
  children = calloc(processes + 1, sizeof *children);
  for (int i = 0; i < processes; i++) {
    int down[2], up[2];
    CHECK(pipe(down) == 0 && pipe(up) == 0);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
      for (int k = 0; k < i; k++) close(children[k][0]), close(children[k][1]);
      close(down[1]), close(up[0]);
      child(down[0], up[1]);
    }
    close(down[0]), close(up[1]);
    children[i][0] = up[0], children[i][1] = down[1];
  }
}

static void checkProcesses(void) {
  for (int i = 0; i < processes; i++) CHECK(write(children[i][1], "?", 1) == 1);
  for (int i = 0; i < processes; i++) {
    uint32_t count;
    CHECK(read(children[i][0], &count, sizeof count) == sizeof count);
    CHECK((int)count == checks);
  }
}

// --- Threads: each wakes up for each round. ---

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t begin = PTHREAD_COND_INITIALIZER, end = PTHREAD_COND_INITIALIZER;
static int round_, arrived;

static void* thread(void* unused) {
  static __thread int mine;
  pthread_mutex_lock(&lock);
  for (;;) {
    while (mine == round_) pthread_cond_wait(&begin, &lock);
    CHECK(++mine == round_);
    if (++arrived == threads) pthread_cond_signal(&end);
  }
  return unused;
}

static void startThreads(void) {
  pthread_attr_t small;
  pthread_attr_init(&small);
  pthread_attr_setstacksize(&small, 64 << 10);
  for (int i = 0; i < threads; i++) {
    pthread_t id;
    CHECK(pthread_create(&id, &small, thread, NULL) == 0);
  }
}

static void checkThreads(void) {
  pthread_mutex_lock(&lock);
  arrived = 0;
  round_++;
  pthread_cond_broadcast(&begin);
  while (arrived < threads) pthread_cond_wait(&end, &lock);
  pthread_mutex_unlock(&lock);
}

// --- Descriptors: pipes with a number in them, counters, positions in a file. ---

static int held[MOST_DESCRIPTORS];

static void openDescriptors(void) {
  char name[] = "/tmp/many-XXXXXX";
  int file = mkstemp(name);
  CHECK(file >= 0 && ftruncate(file, MOST_DESCRIPTORS) == 0);
  for (int i = 0; i < descriptors; i++) {
    if (i % 4 == 0 && i + 1 < descriptors) {
      int ends[2];
      CHECK(pipe(ends) == 0 && write(ends[1], &i, sizeof i) == sizeof i);
      held[i] = ends[0], held[i + 1] = ends[1];
      i++;
    } else if (i % 4 == 2) {
      CHECK((held[i] = eventfd(i + 1, EFD_NONBLOCK)) >= 0);
    } else {
      CHECK((held[i] = open(name, O_RDONLY)) >= 0 && lseek(held[i], i, SEEK_SET) == i);
    }
  }
}

static void checkDescriptors(void) {
  for (int i = 0; i < descriptors; i++) {
    if (i % 4 == 0 && i + 1 < descriptors) {
      int found;
      CHECK(read(held[i], &found, sizeof found) == sizeof found && found == i);
      CHECK(write(held[i + 1], &i, sizeof i) == sizeof i);
      i++;
    } else if (i % 4 == 2) {
      uint64_t count;
      CHECK(read(held[i], &count, 8) == 8 && count == (uint64_t)i + 1);
      CHECK(write(held[i], &count, 8) == 8);
    } else {
      CHECK(lseek(held[i], 0, SEEK_CUR) == i);
    }
  }
}

// --- Connections ---

static int counts[MOST_DESCRIPTORS + 1000];

static void answer(int fd, char* line) {
  char text[LINE + 32];
  int length;
  if (strncmp(line, "add ", 4) == 0) {
    length = snprintf(text, sizeof text, "%s %d\n", line + 4, ++counts[fd]);
  } else {
    checks++;
    checkProcesses();
    checkThreads();
    checkDescriptors();
    length = snprintf(text, sizeof text, "fine %d\n", checks);
  }
  CHECK(write(fd, text, length) == length);
}

static void serve(void) {
  int listener = socket(AF_INET, SOCK_STREAM, 0), poll = epoll_create1(0), on = 1;
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(7000)};
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  CHECK(bind(listener, (void*)&at, sizeof at) == 0 && listen(listener, 1000) == 0);
  struct epoll_event event = {.events = EPOLLIN, .data.fd = listener};
  epoll_ctl(poll, EPOLL_CTL_ADD, listener, &event);
  for (;;) {
    int n = epoll_wait(poll, &event, 1, -1), fd = event.data.fd;
    if (n < 1) continue;
    if (fd == listener) {
      event.data.fd = accept(listener, NULL, NULL);
      CHECK(event.data.fd >= 0);
      setsockopt(event.data.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
      counts[event.data.fd] = 0;
      epoll_ctl(poll, EPOLL_CTL_ADD, event.data.fd, &event);
      continue;
    }
    // Questions are short and come one at a time.
    char line[LINE];
    ssize_t length = read(fd, line, sizeof line - 1);
    if (length <= 0) {
      close(fd);
      continue;
    }
    CHECK(line[length - 1] == '\n');
    line[length - 1] = 0;
    answer(fd, line);
  }
}

int main(int argc, char** argv) {
  CHECK(argc == 4);
  processes = atoi(argv[1]), threads = atoi(argv[2]), descriptors = atoi(argv[3]);
  CHECK(descriptors <= MOST_DESCRIPTORS);
  struct rlimit limit;
  CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
  limit.rlim_cur = limit.rlim_max;
  CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
  startProcesses();
  startThreads();
  openDescriptors();
  serve();
}
