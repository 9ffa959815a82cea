// A tree: children and grandchildren in groups and sessions of their own, an orphan, a daemon and a zombie.
#include "program.h"
#include <sys/prctl.h>

struct seen { volatile pid_t pid, ppid, pgid, sid; volatile uint32_t round; };
static struct seen* seen;
static volatile uint32_t* round_;
enum { child, grandchild, leader, member, orphan, daemon_, count };

static void live(int me) {
  for (uint32_t r = 0;; sleepMs(2)) {
    if (*round_ == r && r != 0) continue;
    r = *round_;
    seen[me] = (struct seen){getpid(), getppid(), getpgid(0), getsid(0), r};
  }
}

int main(void) {
  seen = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  round_ = (uint32_t*)(seen + count);
  *round_ = 1;
  if (!fork()) {
    if (!fork()) live(grandchild);
    live(child);
  }
  if (!fork()) {
    setpgid(0, 0);
    if (!fork()) live(member);
    live(leader);
  }
  pid_t goes = fork();
  if (!goes) {
    if (!fork()) live(orphan);
    _exit(0);
  }
  waitpid(goes, NULL, 0);
  goes = fork();
  if (!goes) {
    setsid();
    if (!fork()) live(daemon_);
    _exit(0);
  }
  waitpid(goes, NULL, 0);
  pid_t zombie = fork();
  if (!zombie) _exit(42);
  struct seen first[count];
  memset(first, 0, sizeof first);
  sleepMs(50);
  *round_ = 2;
  for (int i = 0; i < count; i++) {
    while (seen[i].round != 2) sleepMs(1);
    first[i] = seen[i];
  }
  begin();
  for (;;) {
    next();
    ++*round_;
    for (int i = 0; i < count; i++) {
      for (int n = 0; seen[i].round != *round_; n++) {
        if (n > 500) fail("process %d is not there", i);
        sleepMs(1);
      }
      if (seen[i].pid != first[i].pid || seen[i].ppid != first[i].ppid || seen[i].pgid != first[i].pgid || seen[i].sid != first[i].sid)
        fail("process %d: pid %d parent %d group %d session %d, not %d %d %d %d", i, seen[i].pid, seen[i].ppid, seen[i].pgid,
             seen[i].sid, first[i].pid, first[i].ppid, first[i].pgid, first[i].sid);
    }
    int status;
    siginfo_t info = {0};
    check(!waitid(P_PID, zombie, &info, WEXITED | WNOWAIT | WNOHANG));
    equal(info.si_pid, zombie);
    equal(info.si_status, 42);
    pid_t old = zombie;
    equal(waitpid(zombie, &status, WNOHANG), old);
    zombie = fork();
    if (!zombie) _exit(42);
    sleepMs(10);
    ok();
  }
}
