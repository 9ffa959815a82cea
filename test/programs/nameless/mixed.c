// Files without a name that are written by write(2) and through memory by turns, to values that come back; sealed ones that
// are mapped for reading only, with and without their descriptor; memory given away that nobody maps any more.
#include "program.h"

#define BYTES (1 << 20)

int main(void) {
  int both = memfd_create("both", 0), sealed = memfd_create("sealed", MFD_ALLOW_SEALING);
  int lost = memfd_create("lost", MFD_ALLOW_SEALING), reader = memfd_create("reader", 0);
  int left = memfd_create("left", 0);
  check(!ftruncate(both, BYTES) && !ftruncate(reader, BYTES) && !ftruncate(left, BYTES));
  char* b = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, both, 0);
  memset(b, 1, BYTES);
  static char bytes[BYTES];
  memset(bytes, 3, BYTES);
  check(write(sealed, bytes, BYTES) == BYTES && write(lost, bytes, BYTES) == BYTES);
  check(!fcntl(sealed, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW));
  check(!fcntl(lost, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW));
  char* s = mmap(NULL, BYTES, PROT_READ, MAP_SHARED, sealed, 0);
  char* l = mmap(NULL, BYTES, PROT_READ, MAP_SHARED, lost, 0);
  check(s != MAP_FAILED && l != MAP_FAILED);
  close(lost);
  char path[64];
  sprintf(path, "/proc/self/fd/%d", reader);
  int readOnly = open(path, O_RDONLY);
  char* r = mmap(NULL, BYTES, PROT_READ, MAP_SHARED, readOnly, 0);
  check(r != MAP_FAILED);
  char* m = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, left, 0);
  memset(m, 9, BYTES);
  // Sealed later: another mapping at the same place, which looks the same.
  int later = memfd_create("later", MFD_ALLOW_SEALING);
  memset(bytes, 4, BYTES);
  check(write(later, bytes, BYTES) == BYTES);
  char* a = mmap(NULL, BYTES, PROT_READ, MAP_SHARED, later, 0);
  begin();
  char last = 1, given = 9;
  for (int round = 1;; round++) {
    next();
    check(isByte(b, BYTES, last) && pread(both, bytes, BYTES, 0) == BYTES && isByte(bytes, BYTES, last));
    // Rounds: memory, write, memory, write; only two values, so that each comes back by the other way.
    last = round / 2 % 2 ? 1 : 2;
    memset(bytes, last, BYTES);
    if (round % 2) memset(b, last, BYTES);
    else check(pwrite(both, bytes, BYTES, 0) == BYTES);
    check(isByte(s, BYTES, 3) && isByte(l, BYTES, 3));
    check(mprotect(s, 4096, PROT_READ | PROT_WRITE) && errno == EACCES);
    equal(pwrite(sealed, "x", 1, 0), -1);
    check(isByte(r, BYTES, round - 1));
    memset(bytes, round, BYTES);
    check(pwrite(reader, bytes, BYTES, 0) == BYTES && isByte(r, BYTES, round));
    check(pread(left, bytes, BYTES, 0) == BYTES && isByte(bytes, BYTES, given));
    check(isByte(a, BYTES, 4));
    if (round == 2) {
      munmap(a, BYTES);
      check(!fcntl(later, F_ADD_SEALS, F_SEAL_WRITE));
      check(mmap(a, BYTES, PROT_READ, MAP_SHARED | MAP_FIXED_NOREPLACE, later, 0) == a);
    }
    // Mapped at one dump, written and gone before the next. Not in the second round: nothing else may show in the layout then.
    if (round != 2) given = round;
    if (round == 2) ok();
    if (round == 2) continue;
    if (m) memset(m, given, BYTES), munmap(m, BYTES), m = NULL;
    else {
      m = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, left, 0);
      memset(m, given, BYTES);
    }
    ok();
  }
}
