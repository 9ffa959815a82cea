// Memory, descriptors or working directory shared by processes, or not shared by a thread: `sharing WHAT`.
#include "program.h"
#include <pthread.h>
#include <sched.h>

static char stack[1 << 16];
static volatile int isAlone;

static int sleeper(void* unused) {
  (void)unused;
  for (;;) pause();
  return 0;
}

static void* loner(void* flag) {
  check(!unshare((int)(intptr_t)flag));
  isAlone = 1;
  for (;;) pause();
  return NULL;
}

int main(int count, char** args) {
  check(count == 2);
  pthread_t thread;
  int isThread = !strncmp(args[1], "own-", 4);
  const char* what = isThread ? args[1] + 4 : args[1];
  int flag = !strcmp(what, "memory") ? CLONE_VM : !strcmp(what, "descriptors") ? CLONE_FILES : CLONE_FS;
  if (isThread) check(!pthread_create(&thread, NULL, loner, (void*)(intptr_t)flag));
  else check(clone(sleeper, stack + sizeof stack, flag | SIGCHLD, NULL) > 0);
  while (isThread && !isAlone) sleepMs(1);
  begin();
  for (;;) {
    next();
    ok();
  }
}
