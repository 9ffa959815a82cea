// Private mappings of files that have no name any more: deleted, replaced by another of the same name (as an upgrade does it),
// of a memfd; one of them is renamed, then deleted, then changed by its descriptor, while the program is watched.
#include "program.h"

#define PAGES 24
// mov eax, 42; ret
static const unsigned char code[] = {0xb8, 42, 0, 0, 0, 0xc3};

typedef struct {
  int fd;
  char* at;
  char* text;
  // Of what is in the file, and of pages that were written over it.
  uint64_t seed, own;
} Mapped;

static void fillFile(int fd, uint64_t seed) {
  char page[4096];
  for (int i = 0; i < PAGES; i++) {
    fill(page, 4096, seed + i);
    check(pwrite(fd, page, 4096, i * 4096) == 4096);
  }
}

// Every third page is written; the code stands on the page behind the others.
static Mapped map(int fd, uint64_t seed) {
  fillFile(fd, seed);
  check(pwrite(fd, code, sizeof code, PAGES * 4096) == sizeof code);
  Mapped m = {fd, mmap(NULL, PAGES * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0),
              mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, PAGES * 4096), seed, seed + 100};
  check(m.at != MAP_FAILED && m.text != MAP_FAILED);
  for (int i = 0; i < PAGES; i += 3) fill(m.at + i * 4096, 4096, m.own + i);
  return m;
}

static void verify(const Mapped* m, int round) {
  for (int i = 0; i < PAGES; i++) {
    int own = i % 3 == 0 && !(i == 3 && round % 2 == 1);
    if (!isFilled(m->at + i * 4096, 4096, (own ? m->own : m->seed) + i))
      fail("page %d of %llu in round %d", i, (unsigned long long)m->seed, round);
  }
  equal(((int (*)(void))m->text)(), 42);
  // The third page is the file's again in every other round.
  if (round % 2 == 0) check(!madvise(m->at + 3 * 4096, 4096, MADV_DONTNEED));
  else fill(m->at + 3 * 4096, 4096, m->own + 3);
}

static int makeFile(const char* path) {
  int fd = open(path, O_CREAT | O_RDWR | O_TRUNC, 0755);
  check(fd >= 0);
  return fd;
}

int main(void) {
  Mapped deleted = map(makeFile("/tmp/mapped-\xc3\xbc"), 1000);
  check(!unlink("/tmp/mapped-\xc3\xbc") && !close(deleted.fd));
  Mapped replaced = map(makeFile("/tmp/mapped-replaced"), 2000);
  int other = makeFile("/tmp/mapped-new");
  fillFile(other, 9000);
  check(!close(other) && !rename("/tmp/mapped-new", "/tmp/mapped-replaced") && !close(replaced.fd));
  Mapped memory = map(memfd_create("mapped", 0), 3000);
  check(!close(memory.fd));
  Mapped open = map(memfd_create("mapped-open", 0), 4000);
  // What it will replace is the same, for a clone that has it from the beginning.
  int before = makeFile("/tmp/mapped-moved");
  fillFile(before, 5000);
  check(pwrite(before, code, sizeof code, PAGES * 4096) == sizeof code && !close(before));
  Mapped moving = map(makeFile("/tmp/mapped-moving"), 5000);
  Mapped* all[] = {&deleted, &replaced, &memory, &open, &moving};
  begin();
  for (int round = 0;; round++) {
    next();
    for (int i = 0; i < 5; i++) verify(all[i], round);
    if (round == 0) check(!rename("/tmp/mapped-moving", "/tmp/mapped-moved"));
    if (round == 1) check(!unlink("/tmp/mapped-moved"));
    if (round == 2 || round == 5) {
      // Pages that nobody has written privately are the file's.
      moving.seed = 6000 + 1000 * round, open.seed = 60000 + 1000 * round;
      fillFile(moving.fd, moving.seed);
      fillFile(open.fd, open.seed);
    }
    if (round == 5) check(!close(moving.fd));
    ok();
  }
}
