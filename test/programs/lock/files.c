// Locks of files: POSIX ranges, of an open description, flock, each as another process meets it; a lease; a signal on readiness.
#include "program.h"
#include <sys/file.h>

static void lockRange(int fd, int command, short type, off_t start, off_t length) {
  struct flock l = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = length};
  check(!fcntl(fd, command, &l));
}

// What another process is told of a range: F_UNLCK, or what is in its way.
static int seen(const char* path, off_t start, off_t length) {
  int status;
  pid_t child = fork();
  if (!child) {
    int fd = open(path, O_RDWR);
    struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = start, .l_len = length};
    if (fcntl(fd, F_GETLK, &l)) _exit(100);
    _exit(l.l_type);
  }
  check(waitpid(child, &status, 0) == child && WIFEXITED(status));
  return WEXITSTATUS(status);
}

static int flocked(const char* path, int how) {
  int fd = open(path, O_RDWR), r = flock(fd, how | LOCK_NB);
  int busy = r < 0 && errno == EWOULDBLOCK;
  close(fd);
  return busy;
}

int main(void) {
  sigset_t io;
  sigemptyset(&io);
  sigaddset(&io, SIGRTMIN + 5);
  check(!sigprocmask(SIG_BLOCK, &io, NULL));
  int posix = open("/tmp/posix", O_CREAT | O_RDWR, 0600), ofd = open("/tmp/ofd", O_CREAT | O_RDWR, 0600);
  int whole = open("/tmp/flock", O_CREAT | O_RDWR, 0600), shared = open("/tmp/flock-shared", O_CREAT | O_RDWR, 0600);
  int leased = open("/tmp/leased", O_CREAT | O_RDONLY, 0600), ends[2];
  lockRange(posix, F_SETLK, F_WRLCK, 10, 20);
  lockRange(posix, F_SETLK, F_RDLCK, 100, 0);
  lockRange(ofd, F_OFD_SETLK, F_WRLCK, 0, 5);
  check(!flock(whole, LOCK_EX) && !flock(shared, LOCK_SH) && !fcntl(leased, F_SETLEASE, F_RDLCK));
  check(!pipe(ends));
  check(!fcntl(ends[0], F_SETOWN, getpid()) && !fcntl(ends[0], F_SETSIG, SIGRTMIN + 5));
  check(!fcntl(ends[0], F_SETFL, O_ASYNC | O_NONBLOCK));
  begin();
  for (;;) {
    next();
    equal(seen("/tmp/posix", 10, 1), F_WRLCK);
    equal(seen("/tmp/posix", 0, 10), F_UNLCK);
    equal(seen("/tmp/posix", 30, 70), F_UNLCK);
    equal(seen("/tmp/posix", 5000, 1), F_RDLCK);
    equal(seen("/tmp/ofd", 4, 1), F_WRLCK);
    equal(seen("/tmp/ofd", 5, 1), F_UNLCK);
    check(flocked("/tmp/flock", LOCK_SH) && !flocked("/tmp/flock-shared", LOCK_SH) && flocked("/tmp/flock-shared", LOCK_EX));
    equal(fcntl(leased, F_GETLEASE), F_RDLCK);
    siginfo_t info;
    struct timespec patience = {2, 0};
    char c;
    check(write(ends[1], "x", 1) == 1 && sigtimedwait(&io, &info, &patience) == SIGRTMIN + 5);
    equal(info.si_fd, ends[0]);
    check(read(ends[0], &c, 1) == 1 && fcntl(ends[0], F_GETOWN) == getpid());
    ok();
  }
}
