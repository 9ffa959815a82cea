// Threads that start other programs by vfork and posix_spawn without a pause; each child does what it shall.
#include "program.h"
#include <pthread.h>
#include <spawn.h>

extern char** environ;
static volatile uint64_t rounds[3];

static void isSeven(pid_t pid) {
  int status;
  equal(waitpid(pid, &status, 0), pid);
  check(WIFEXITED(status));
  equal(WEXITSTATUS(status), 7);
}

static char* const command[] = {"sh", "-c", "exit 7", NULL};

static void* byVfork(void* arg) {
  for (;; rounds[0]++) {
    pid_t pid = vfork();
    if (!pid) {
      execv("/bin/sh", command);
      _exit(1);
    }
    isSeven(pid);
  }
  return arg;
}

static void* bySpawn(void* arg) {
  for (;; rounds[1]++) {
    pid_t pid;
    check(!posix_spawn(&pid, "/bin/sh", NULL, NULL, command, environ));
    isSeven(pid);
  }
  return arg;
}

static void* byEnd(void* arg) {
  for (;; rounds[2]++) {
    pid_t pid = vfork();
    if (!pid) _exit(7);
    isSeven(pid);
  }
  return arg;
}

int main(void) {
  pthread_t t;
  check(!pthread_create(&t, NULL, byVfork, NULL) && !pthread_create(&t, NULL, bySpawn, NULL) && !pthread_create(&t, NULL, byEnd, NULL));
  begin();
  for (;;) {
    next();
    uint64_t before[3] = {rounds[0], rounds[1], rounds[2]};
    for (int i = 0; i < 3; i++)
      for (int n = 0; rounds[i] < before[i] + 2; n++) {
        if (n > 20000) fail("thread %d does not go on", i);
        sleepMs(1);
      }
    ok();
  }
}
