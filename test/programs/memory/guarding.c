// Guards in motion: a thread puts them up and takes them down over its own ring of pages all the time, as an allocator or a
// thread library does, and finds each as it has left it.
#include "guard.h"
#include <pthread.h>
#include <stdatomic.h>

#define PAGE 4096ul
#define PAGES 64

static atomic_long rounds, sharedRounds;

static void* guarding(void* unused) {
  (void)unused;
  char* ring = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  for (long i = 0;; i++) {
    char* page = ring + i % PAGES * PAGE;
    if (i >= PAGES) {
      // Up since the last time round.
      check(isGuard(page));
      check(!madvise(page, PAGE, MADV_GUARD_REMOVE));
      check(isByte(page, PAGE, 0));
    }
    int mark = (int)(i % 127) + 1;
    memset(page, mark, PAGE);
    check(isByte(page, PAGE, mark));
    check(!madvise(page, PAGE, MADV_GUARD_INSTALL));
    atomic_fetch_add(&rounds, 1);
    struct timespec pause = {0, 200000};
    nanosleep(&pause, NULL);
  }
  return NULL;
}

// Shared memory that was not touched: where the kernel marks it as protected, a guard cannot be put up before the next stop.
static void* guardingShared(void* unused) {
  (void)unused;
  char* ring = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  for (long i = 0;; i++) {
    char* page = ring + i % PAGES * PAGE;
    check(!madvise(page, PAGE, MADV_GUARD_INSTALL));
    check(isGuard(page));
    struct timespec pause = {0, 200000};
    nanosleep(&pause, NULL);
    check(!madvise(page, PAGE, MADV_GUARD_REMOVE));
    atomic_fetch_add(&sharedRounds, 1);
  }
  return NULL;
}

// There are stops between so many questions.
#define QUESTIONS 4
// Processor time after a stop in which a thread that can put up a guard has done so.
#define CHANCE_NS 5000000

static long long ranFor(pthread_t thread) {
  clockid_t clock;
  struct timespec ran;
  check(!pthread_getcpuclockid(thread, &clock));
  check(!clock_gettime(clock, &ran));
  return ran.tv_sec * 1000000000ll + ran.tv_nsec;
}

int main(void) {
  expectGuards();
  pthread_t thread, sharing;
  check(!pthread_create(&thread, NULL, guarding, NULL));
  check(!pthread_create(&sharing, NULL, guardingShared, NULL));
  long shared[QUESTIONS];
  memset(shared, -1, sizeof shared);
  begin();
  for (int i = 0;; i++) {
    next();
    // It sleeps between its rounds, or tries in the kernel all the time: on a busy machine too it has run before it is judged.
    struct timespec pause = {0, 1000000};
    long long ran = ranFor(sharing);
    while (atomic_load(&sharedRounds) == shared[i % QUESTIONS] && ranFor(sharing) < ran + CHANCE_NS) nanosleep(&pause, NULL);
    long sharedNow = atomic_load(&sharedRounds);
    if (sharedNow == shared[i % QUESTIONS]) fail("no guard over shared memory since %d questions", QUESTIONS);
    shared[i % QUESTIONS] = sharedNow;
    long before = atomic_load(&rounds);
    // It goes on.
    while (atomic_load(&rounds) == before) nanosleep(&pause, NULL);
    ok();
  }
}
