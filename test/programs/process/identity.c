// Working directory, umask, limits, name, nice value, user and groups, parent-death signal, "no new privileges".
#include "program.h"
#include <grp.h>
#include <sys/prctl.h>
#include <sys/resource.h>

int main(void) {
  check(!mkdir("/tmp/deep", 0700) || errno == EEXIST);
  check(!chdir("/tmp/deep"));
  umask(0137);
  struct rlimit limit = {100, 200}, now;
  check(!setrlimit(RLIMIT_NOFILE, &limit));
  struct rlimit core = {4096, RLIM_INFINITY};
  setrlimit(RLIMIT_CORE, &core);
  getrlimit(RLIMIT_CORE, &core);
  prctl(PR_SET_NAME, "an identity");
  check(nice(5) == 5);
  gid_t groups[] = {10, 20, 30}, are[8];
  check(!setgroups(3, groups));
  check(!setresgid(1001, 1002, 1003));
  check(!setresuid(2001, 2002, 2003));
  check(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
  begin();
  for (;;) {
    next();
    char text[256];
    check(getcwd(text, sizeof text) && !strcmp(text, "/tmp/deep"));
    mode_t mask = umask(0137);
    equal(mask, 0137);
    check(!getrlimit(RLIMIT_NOFILE, &now));
    equal(now.rlim_cur, 100);
    equal(now.rlim_max, 200);
    check(!getrlimit(RLIMIT_CORE, &now));
    equal(now.rlim_cur, core.rlim_cur);
    check(!prctl(PR_GET_NAME, text) && !strcmp(text, "an identity"));
    equal(getpriority(PRIO_PROCESS, 0), 5);
    uid_t r, e, s;
    check(!getresuid(&r, &e, &s));
    equal(r, 2001);
    equal(e, 2002);
    equal(s, 2003);
    check(!getresgid(&r, &e, &s));
    equal(r, 1001);
    equal(e, 1002);
    equal(s, 1003);
    equal(getgroups(8, are), 3);
    for (int i = 0; i < 3; i++) equal(are[i], groups[i]);
    equal(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 1);
    int fd = open("/proc/self/cmdline", O_RDONLY);
    check(fd >= 0 && read(fd, text, sizeof text) > 0 && strstr(text, "identity"));
    close(fd);
    ssize_t n = readlink("/proc/self/exe", text, sizeof text - 1);
    check(n > 0);
    text[n] = 0;
    check(strstr(text, "process/identity"));
    ok();
  }
}
