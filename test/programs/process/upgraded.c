// Programs whose file is gone while they run, as after an upgrade: deleted, replaced by another of its name, and one that was
// executed from a memfd. Each can still read its program by /proc/self/exe, and execute it.
#include "program.h"

static char self[1 << 20];

static size_t readSelf(void) {
  int fd = open("/proc/self/exe", O_RDONLY);
  check(fd >= 0);
  ssize_t n = read(fd, self, sizeof self);
  check(n > 4096 && n < (ssize_t)sizeof self && !close(fd));
  return n;
}

static void writeAll(int fd, const void* bytes, size_t n) {
  check(write(fd, bytes, n) == (ssize_t)n);
}

static uint64_t digest(const char* bytes, size_t n) {
  uint64_t sum = 1469598103934665603ull;
  for (size_t i = 0; i < n; i++) sum = (sum ^ (unsigned char)bytes[i]) * 1099511628211ull;
  return sum;
}

// A clone's has another name beside the one that is taken.
static void verifyLink(const char* name) {
  char link[256], *gone;
  ssize_t n = readlink("/proc/self/exe", link, 255);
  check(n > 0);
  link[n] = 0;
  gone = strstr(link, " (deleted)");
  if (!gone || strncmp(link, name, strlen(name)) || gone - link > (long)strlen(name) + 3)
    fail("/proc/self/exe is %s, not %s (deleted)", link, name);
}

// One of the programs: answers each byte with what it finds.
static void serve(uint64_t wanted, const char* name) {
  char c;
  while (read(0, &c, 1) == 1) {
    verifyLink(name);
    check(digest(self, readSelf()) == wanted);
    // Executed once more, by its link: the same program, which says so by its exit.
    pid_t child = fork();
    if (child == 0) {
      execl("/proc/self/exe", "upgraded", "again", NULL);
      _exit(7);
    }
    int status;
    check(waitpid(child, &status, 0) == child);
    equal(status, 5 << 8);
    check(write(4, "y", 1) == 1);
  }
  _exit(0);
}

typedef struct {
  int to, from;
  pid_t pid;
} Child;

static Child start(const char* path, int fd, const char* name, uint64_t wanted) {
  int to[2], from[2];
  check(!pipe(to) && !pipe(from));
  char sum[32];
  snprintf(sum, sizeof sum, "%llu", (unsigned long long)wanted);
  pid_t pid = fork();
  check(pid >= 0);
  if (pid == 0) {
    check(dup2(to[0], 0) == 0 && dup2(from[1], 4) == 4);
    char* args[] = {"upgraded", "serve", sum, (char*)name, NULL};
    char* none[] = {NULL};
    if (fd >= 0) fexecve(fd, args, none);
    else execv(path, args);
    fail("exec of %s", path);
  }
  close(to[0]), close(from[1]);
  return (Child){to[1], from[0], pid};
}

static void ask(Child child) {
  char c;
  check(write(child.to, "?", 1) == 1);
  if (read(child.from, &c, 1) != 1) fail("%d has ended", child.pid);
}

static void copyTo(const char* path, const void* bytes, size_t n) {
  int fd = open(path, O_CREAT | O_WRONLY | O_TRUNC, 0755);
  check(fd >= 0);
  writeAll(fd, bytes, n);
  check(!close(fd));
}

int main(int count, char** args) {
  if (count > 1 && !strcmp(args[1], "again")) return 5;
  if (count > 3 && !strcmp(args[1], "serve")) serve(strtoull(args[2], NULL, 10), args[3]);
  size_t n = readSelf();
  uint64_t wanted = digest(self, n);
  copyTo("/tmp/program-deleted", self, n);
  copyTo("/tmp/program-replaced", self, n);
  copyTo("/tmp/program-new", "#!/bin/false\n", 13);
  int memory = memfd_create("program", MFD_CLOEXEC);
  writeAll(memory, self, n);
  Child children[] = {
      start("/tmp/program-deleted", -1, "/tmp/program-deleted", wanted),
      start("/tmp/program-replaced", -1, "/tmp/program-replaced", wanted),
      start("memfd", memory, "/memfd:program", wanted),
  };
  check(!close(memory));
  sleepMs(100);
  check(!unlink("/tmp/program-deleted") && !rename("/tmp/program-new", "/tmp/program-replaced"));
  begin();
  for (;;) {
    next();
    for (int i = 0; i < 3; i++) ask(children[i]);
    ok();
  }
}
