// Threads are born and end all the time; each must run once and give its result back.
#include "program.h"
#include <pthread.h>

static void* body(void* argument) {
  volatile uint64_t sum = 0;
  for (int i = 0; i < 20000; i++) sum += i;
  if ((uint64_t)argument % 8 == 0) sleepMs(2);
  return (void*)((uint64_t)argument * 3);
}

int main(void) {
  begin();
  for (uint64_t n = 1;; n += 4) {
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) check(!pthread_create(&threads[i], NULL, body, (void*)(n + i)));
    for (int i = 0; i < 4; i++) {
      void* result;
      check(!pthread_join(threads[i], &result));
      equal((uint64_t)result, (n + i) * 3);
    }
    if (asked()) ok();
    sleepMs(1);
  }
}
