// What a program asks for its memory: advice, locks, areas that grow down or may be dropped, seals. Compared with what
// /proc/self/smaps said before, and by what happens at a fork. Changed as a whole area, which no layout shows.
#include "program.h"

#ifndef MAP_DROPPABLE
#define MAP_DROPPABLE 8
#endif
#ifndef MLOCK_ONFAULT
#define MLOCK_ONFAULT 1
#endif
#define BYTES (64 << 10)
#define AREAS 12

static const char* names[AREAS] = {"plain",     "dontfork", "wipeonfork", "dontdump", "mergeable", "hugepage",
                                   "nohugepage", "sequential", "random",   "locked",  "onfault",   "droppable"};
static char* at[AREAS];
static char* grows;

// VmFlags of the area at an address, as far as they are the program's own wish.
static void flagsOf(void* address, char out[128]) {
  static char line[512];
  FILE* f = fopen("/proc/self/smaps", "r");
  unsigned long start, end;
  int found = 0;
  out[0] = 0;
  while (fgets(line, sizeof line, f)) {
    if (sscanf(line, "%lx-%lx ", &start, &end) == 2 && strchr(line, '-') < strchr(line, ' ')) found = start <= (unsigned long)address && (unsigned long)address < end;
    if (!found || strncmp(line, "VmFlags:", 8)) continue;
    for (char* word = strtok(line + 8, " \n"); word; word = strtok(NULL, " \n"))
      if (strstr("gd lo lf sr rr dc dd wf mg hg nh dp sl", word)) strcat(strcat(out, word), " ");
    break;
  }
  fclose(f);
}

static void is(int area, const char* wanted) {
  char flags[128];
  flagsOf(at[area], flags);
  if (strcmp(flags, wanted)) fail("%s has \"%s\", not \"%s\"", names[area], flags, wanted);
}

static void forked(void) {
  pid_t pid = fork();
  if (pid == 0) {
    unsigned char there[BYTES / 4096];
    if (mincore(at[1], BYTES, there) == 0 || errno != ENOMEM) _exit(1);
    if (!isByte(at[2], BYTES, 0)) _exit(2);
    if (!isByte(at[3], BYTES, 3)) _exit(3);
    _exit(0);
  }
  int status;
  check(waitpid(pid, &status, 0) == pid);
  equal(status, 0);
}

int main(void) {
  for (int i = 0; i < AREAS; i++) {
    int kind = i == 11 ? MAP_DROPPABLE : MAP_PRIVATE;
    // A hole before and behind, so that no two become one.
    char* m = mmap(NULL, BYTES + 8192, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    at[i] = mmap(m + 4096, BYTES, PROT_READ | PROT_WRITE, kind | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    check(at[i] == m + 4096);
    memset(at[i], i, BYTES);
  }
  check(!madvise(at[1], BYTES, MADV_DONTFORK) && !madvise(at[2], BYTES, MADV_WIPEONFORK));
  check(!madvise(at[3], BYTES, MADV_DONTDUMP) && !madvise(at[4], BYTES, MADV_MERGEABLE));
  check(!madvise(at[5], BYTES, MADV_HUGEPAGE) && !madvise(at[6], BYTES, MADV_NOHUGEPAGE));
  check(!madvise(at[7], BYTES, MADV_SEQUENTIAL) && !madvise(at[8], BYTES, MADV_RANDOM));
  check(!mlock(at[9], BYTES) && !syscall(SYS_mlock2, at[10], BYTES, MLOCK_ONFAULT));
  grows = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN, -1, 0);
  check(grows != MAP_FAILED);
  memset(grows, 77, BYTES);
  begin();
  for (int round = 1;; round++) {
    next();
    char flags[128];
    is(0, round == 1 ? "" : round % 2 ? "dc " : "wf ");
    is(1, "dc "), is(2, "wf "), is(3, "dd "), is(4, "mg "), is(5, "hg "), is(6, "nh ");
    is(7, "sr "), is(8, "rr "), is(9, "lo "), is(10, "lo lf ");
    flagsOf(at[11], flags);
    check(strstr(flags, "dp "));
    flagsOf(grows, flags);
    if (strcmp(flags, "gd ")) fail("it does not grow: %s", flags);
    for (int i = 1; i < 11; i++) check(isByte(at[i], BYTES, i));
    check(isByte(grows, BYTES, 77));
    memset(at[11], 11, BYTES);
    forked();
    // The same area, asked for something else.
    check(!madvise(at[0], BYTES, round % 2 ? MADV_DOFORK : MADV_KEEPONFORK));
    check(!madvise(at[0], BYTES, round % 2 ? MADV_WIPEONFORK : MADV_DONTFORK));
    ok();
  }
}
