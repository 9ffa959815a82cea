// memfd: content by write and by mapping, seals, two openings, one mapped only, holes.
#include "program.h"

int main(void) {
  char text[64];
  int plain = memfd_create("plain", 0), sealed = memfd_create("sealed", MFD_ALLOW_SEALING | MFD_CLOEXEC);
  int mapped = memfd_create("mapped", MFD_ALLOW_SEALING), sparse = memfd_create("sparse", 0);
  check(write(plain, "0123456789", 10) == 10 && lseek(plain, 4, SEEK_SET) == 4);
  check(write(sealed, "sealed", 6) == 6);
  check(!fcntl(sealed, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW));
  check(!ftruncate(mapped, 300000));
  char* m = mmap(NULL, 300000, PROT_READ | PROT_WRITE, MAP_SHARED, mapped, 0);
  check(m != MAP_FAILED);
  fill(m, 200000, 1);
  check(!ftruncate(sparse, 5000000) && pwrite(sparse, "far", 3, 4000000) == 3);
  sprintf(text, "/proc/self/fd/%d", plain);
  int second = open(text, O_RDONLY);
  check(second >= 0 && lseek(second, 7, SEEK_SET) == 7);
  char* gone = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, memfd_create("gone", 0), 0);
  begin();
  for (int round = 1;; round++) {
    next();
    check(read(plain, text, 2) == 2 && !memcmp(text, "45", 2) && lseek(plain, 4, SEEK_SET) == 4);
    check(read(second, text, 3) == 3 && !memcmp(text, "789", 3) && lseek(second, 7, SEEK_SET) == 7);
    equal(write(second, "x", 1), -1);
    equal(fcntl(sealed, F_GET_SEALS) & (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL), F_SEAL_SHRINK | F_SEAL_GROW);
    equal(pwrite(sealed, "x", 1, 0), -1);
    equal(errno, EPERM);
    check(pread(sealed, text, 10, 0) == 6 && !memcmp(text, "sealed", 6));
    check(isFilled(m, 200000, round));
    fill(m, 200000, round + 1);
    check(pread(mapped, text, 8, 8) == 8 && !memcmp(text, m + 8, 8));
    equal(m[250000], round == 1 ? 0 : (char)(round - 1));
    text[0] = round;
    check(pwrite(mapped, text, 1, 250000) == 1);
    equal(m[250000], (char)round);
    equal(lseek(mapped, 0, SEEK_END), 300000);
    equal(lseek(sparse, 0, SEEK_END), 5000000);
    check(pread(sparse, text, 3, 4000000) == 3 && !memcmp(text, "far", 3) && pread(sparse, text, 1, 100) == 1 && !text[0]);
    check(fcntl(sealed, F_GETFD) == FD_CLOEXEC && gone != NULL);
    ok();
  }
}
