// Orphans: several of one parent that has ended, and of a session whose leader has; later ones are born in such a session, too.
#include "program.h"

enum { most = 40 };
struct seen { volatile pid_t pid, ppid, pgid, sid; volatile uint32_t round; };
static struct seen* seen;
static volatile uint32_t *round_, *wanted, *born;

static void look(int me) { seen[me] = (struct seen){getpid(), getppid(), getpgid(0), getsid(0), *round_}; }

static void live(int me) {
  for (;; sleepMs(2))
    if (seen[me].round != *round_) look(me);
}

// A child of one that ends at once; waits until it is the init's.
static void bear(int me) {
  pid_t goes = fork();
  if (!goes) {
    if (!fork()) {
      while (getppid() != 1) sleepMs(1);
      look(me);
      ++*born;
      live(me);
    }
    _exit(0);
  }
  check(waitpid(goes, NULL, 0) == goes);
}

int main(void) {
  seen = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  round_ = (uint32_t*)(seen + most);
  wanted = round_ + 1, born = round_ + 2;
  *round_ = 1;
  // Three of one parent: their numbers follow on each other.
  pid_t goes = fork();
  if (!goes) {
    for (int me = 0; me < 3; me++)
      if (!fork()) {
        while (getppid() != 1) sleepMs(1);
        look(me);
        __atomic_fetch_add(born, 1, __ATOMIC_SEQ_CST);
        live(me);
      }
    _exit(0);
  }
  check(waitpid(goes, NULL, 0) == goes);
  // A session without its leader: one in it bears more orphans when it is asked to.
  goes = fork();
  if (!goes) {
    setsid();
    if (!fork()) {
      for (int have = 3;; sleepMs(1))
        if (*wanted > (uint32_t)have && *born == (uint32_t)have) bear(have++);
    }
    _exit(0);
  }
  check(waitpid(goes, NULL, 0) == goes);
  *wanted = 5;
  while (*born != *wanted) sleepMs(1);
  struct seen first[most];
  begin();
  for (int have = 0;;) {
    for (; have < (int)*born; have++) first[have] = seen[have];
    next();
    ++*round_;
    for (int i = 0; i < have; i++) {
      for (int n = 0; seen[i].round != *round_; n++) {
        if (n > 2000) fail("orphan %d is not there", i);
        sleepMs(1);
      }
      if (seen[i].pid != first[i].pid || seen[i].ppid != 1 || seen[i].pgid != first[i].pgid || seen[i].sid != first[i].sid)
        fail("orphan %d: pid %d parent %d group %d session %d, not %d 1 %d %d", i, seen[i].pid, seen[i].ppid, seen[i].pgid, seen[i].sid,
             first[i].pid, first[i].pgid, first[i].sid);
    }
    if (have < most) {
      ++*wanted;
      while (*born != *wanted) sleepMs(1);
    }
    ok();
  }
}
