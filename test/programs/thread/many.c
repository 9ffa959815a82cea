// Twenty threads with thread-local storage, names, signal masks and alternate stacks of their own, on a mutex and a condition.
#include "program.h"
#include <pthread.h>
#include <sys/prctl.h>

#define THREADS 20

static __thread uint64_t own[64];
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t wake = PTHREAD_COND_INITIALIZER, told = PTHREAD_COND_INITIALIZER;
static int round_, answers;

static void* body(void* argument) {
  long id = (long)argument;
  char name[16], now[16];
  snprintf(name, sizeof name, "worker-%ld", id);
  prctl(PR_SET_NAME, name);
  fill(own, sizeof own, id);
  pid_t tid = gettid();
  stack_t stack = {.ss_sp = malloc(SIGSTKSZ), .ss_size = SIGSTKSZ}, is;
  check(!sigaltstack(&stack, NULL));
  sigset_t mask, old;
  sigemptyset(&mask);
  sigaddset(&mask, SIGRTMIN + id % 20);
  sigaddset(&mask, SIGUSR1);
  pthread_sigmask(SIG_SETMASK, &mask, NULL);
  int seen = 0;
  pthread_mutex_lock(&mutex);
  for (;;) {
    answers++;
    pthread_cond_signal(&told);
    while (round_ == seen) pthread_cond_wait(&wake, &mutex);
    seen = round_;
    check(isFilled(own, sizeof own, id));
    equal(gettid(), tid);
    prctl(PR_GET_NAME, now);
    if (strcmp(name, now)) fail("name %s", now);
    check(!sigaltstack(NULL, &is));
    check(is.ss_sp == stack.ss_sp && is.ss_size == stack.ss_size && is.ss_flags == stack.ss_flags);
    pthread_sigmask(SIG_SETMASK, NULL, &old);
    for (int s = 1; s < 64; s++)
      if (s != SIGKILL && s != SIGSTOP && s != 32 && s != 33 && sigismember(&old, s) != sigismember(&mask, s))
        fail("signal %d in the mask", s);
  }
}

int main(void) {
  pthread_t thread;
  pthread_mutex_lock(&mutex);
  for (long i = 0; i < THREADS; i++) check(!pthread_create(&thread, NULL, body, (void*)(i + 1)));
  for (;;) {
    while (answers < THREADS) pthread_cond_wait(&told, &mutex);
    if (round_ == 0) begin();
    else ok();
    pthread_mutex_unlock(&mutex);
    next();
    pthread_mutex_lock(&mutex);
    answers = 0;
    round_++;
    pthread_cond_broadcast(&wake);
  }
}
