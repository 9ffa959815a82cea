// Job control: a child with two threads that SIGSTOP has stopped, once collected by its parent and once not, in turns; it stands still
// until SIGCONT, goes on then, and its parent is told of each stop once. Another one has a signal waiting meanwhile.
#include "program.h"
#include <pthread.h>

struct counts {
  volatile uint64_t first, second, caught;
};
static struct counts* counts;

static void* counter(void* at) {
  for (;;) {
    ++*(volatile uint64_t*)at;
    usleep(500);
  }
  return NULL;
}

static void caught(int signal) {
  (void)signal;
  counts->caught++;
}

static pid_t start(void) {
  pid_t child = fork();
  if (child > 0) return child;
  pthread_t thread;
  signal(SIGTERM, caught);
  check(!pthread_create(&thread, NULL, counter, (void*)&counts->second));
  counter((void*)&counts->first);
  _exit(0);
}

static char stateOf(pid_t pid) {
  char path[40], text[300] = {0};
  snprintf(path, sizeof path, "/proc/%d/stat", pid);
  int fd = open(path, O_RDONLY);
  check(fd >= 0 && read(fd, text, sizeof text - 1) > 0);
  close(fd);
  return strrchr(text, ')')[2];
}

// Whoever watches a stopped process is shown as its tracer.
static int isStopped(pid_t pid) { return stateOf(pid) == 'T' || stateOf(pid) == 't'; }

static void collect(pid_t child) {
  int status = 0;
  equal(waitpid(child, &status, WUNTRACED), child);
  check(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
}

static void moves(int whether) {
  struct counts before = *counts;
  for (int i = 0; i < 500 && whether && (counts->first == before.first || counts->second == before.second); i++) sleepMs(10);
  if (!whether) sleepMs(20);
  equal(counts->first != before.first, whether);
  equal(counts->second != before.second, whether);
}

int main(void) {
  counts = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  pid_t child = start();
  int status;
  moves(1);
  check(!kill(child, SIGSTOP));
  collect(child);
  check(!kill(child, SIGTERM));
  begin();
  for (int round = 0;; round++) {
    next();
    moves(0);
    check(isStopped(child));
    if (round % 2) collect(child);
    equal(waitpid(child, &status, WUNTRACED | WNOHANG), 0);
    equal(counts->caught, round);
    check(!kill(child, SIGCONT));
    moves(1);
    equal(waitpid(child, &status, WCONTINUED), child);
    check(WIFCONTINUED(status));
    equal(counts->caught, round + 1);
    check(!kill(child, SIGSTOP));
    if (round % 2) collect(child);
    else {
      siginfo_t told = {0};
      equal(waitid(P_PID, child, &told, WSTOPPED | WNOWAIT), 0);
      equal(told.si_pid, child);
    }
    check(!kill(child, SIGTERM));
    ok();
  }
}
