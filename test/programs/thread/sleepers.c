// Many threads that wait for work on condition variables, a bare futex, or a gate for all; now and then one is woken up, by work or
// by a signal. What each keeps in variables of its own must be there when it goes on.
#include "../program.h"
#include <linux/futex.h>
#include <pthread.h>

enum { THREADS = 48, BARE = 8, GATED = 8 };

static struct Worker {
  pthread_t thread;
  pthread_mutex_t lock;
  pthread_cond_t work, done;
  long asked, answered;
  _Atomic int word;
  _Atomic long signals;
} workers[THREADS];

static pthread_mutex_t gateLock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t gate = PTHREAD_COND_INITIALIZER;
static long opened;
static _Atomic long passed, started;
static __thread struct Worker* self;

static void onSignal(int number) {
  (void)number;
  self->signals++;
}

static void* conditioned(void* argument) {
  struct Worker* w = self = argument;
  started++;
  volatile double before = (double)(w - workers) * 1.5;
  pthread_mutex_lock(&w->lock);
  for (long sum = 0;;) {
    while (w->asked == w->answered) pthread_cond_wait(&w->work, &w->lock);
    check(before == (double)(w - workers) * 1.5);
    sum += w->asked - w->answered;
    check(sum == w->asked);
    w->answered = w->asked;
    pthread_cond_signal(&w->done);
  }
  return NULL;
}

static void* bare(void* argument) {
  struct Worker* w = self = argument;
  started++;
  for (int seen = 0;;) {
    syscall(SYS_futex, &w->word, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
    if (w->word == seen) continue;
    seen = w->word;
    pthread_mutex_lock(&w->lock);
    w->answered = seen;
    pthread_cond_signal(&w->done);
    pthread_mutex_unlock(&w->lock);
  }
  return NULL;
}

static void* gated(void* argument) {
  self = argument;
  started++;
  pthread_mutex_lock(&gateLock);
  for (long seen = 0;; seen = opened) {
    while (opened == seen) pthread_cond_wait(&gate, &gateLock);
    passed++;
  }
  return NULL;
}

// Gives a worker something to do and waits until it has done it.
static void ask(struct Worker* w) {
  pthread_mutex_lock(&w->lock);
  w->asked++;
  if (w - workers < BARE) {
    w->word = (int)w->asked;
    syscall(SYS_futex, &w->word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
  } else {
    pthread_cond_signal(&w->work);
  }
  while (w->answered != w->asked) pthread_cond_wait(&w->done, &w->lock);
  pthread_mutex_unlock(&w->lock);
}

int main(void) {
  signal(SIGUSR2, onSignal);
  for (int i = 0; i < THREADS; i++) {
    struct Worker* w = &workers[i];
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->work, NULL);
    pthread_cond_init(&w->done, NULL);
    void* (*body)(void*) = i < BARE ? bare : i < BARE + GATED ? gated : conditioned;
    equal(pthread_create(&w->thread, NULL, body, w), 0);
  }
  while (started != THREADS) usleep(100);
  begin();
  for (long round = 1;; round++) {
    next();
    for (int i = 0; i < THREADS; i++)
      if (i < BARE || i >= BARE + GATED) ask(&workers[i]);
    pthread_mutex_lock(&gateLock);
    opened++;
    pthread_cond_broadcast(&gate);
    pthread_mutex_unlock(&gateLock);
    for (int i = 0; i < THREADS; i++) equal(pthread_kill(workers[i].thread, SIGUSR2), 0);
    for (int i = 0; i < THREADS; i++)
      while (workers[i].signals != round) usleep(100);
    while (passed != round * GATED) usleep(100);
    ok();
  }
}
