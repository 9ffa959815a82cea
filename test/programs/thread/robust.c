// A robust mutex held by a thread that dies after the event: the next one must be told so (the robust list must be known).
#include "program.h"
#include <pthread.h>

static pthread_mutex_t mutex;
static volatile int mayDie, locked;

static void* dies(void* argument) {
  pthread_mutex_lock(&mutex);
  locked = 1;
  while (!mayDie) sleepMs(5);
  syscall(SYS_exit, 0);
  return NULL;
}

int main(void) {
  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
  pthread_mutex_init(&mutex, &attributes);
  for (int round = 0;; round++) {
    pthread_t thread;
    mayDie = locked = 0;
    check(!pthread_create(&thread, NULL, dies, NULL));
    while (!locked) sleepMs(1);
    if (round) ok();
    else begin();
    next();
    mayDie = 1;
    equal(pthread_mutex_lock(&mutex), EOWNERDEAD);
    check(!pthread_mutex_consistent(&mutex));
    pthread_mutex_unlock(&mutex);
  }
}
