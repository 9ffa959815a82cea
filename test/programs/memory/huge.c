// Huge pages (hugetlb) at rest: private, also read-only, without access, not set aside; shared between parent and child; memfd with
// seals, mapped twice, and one that is mapped no more; System V segments, one detached. What was never touched stays so, and all
// are huge in every life.
// Huge pages: 100
#include "huge.h"

static const int private = MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB;
static int ask[2], answer[2];

// The child writes what it is asked for into the shared page.
static void childFills(char* shared, uint64_t seed) {
  static char done;
  check(write(ask[1], &seed, sizeof seed) == sizeof seed);
  check(read(answer[0], &done, 1) == 1);
  check(isFilled(shared + HUGE, 4096, seed));
}

int main(void) {
  char* written = mapHuge(3, private, -1);
  char* readOnly = mapHuge(1, private, -1);
  char* closed = mapHuge(1, private, -1);
  char* sparse = mapHuge(64, private | MAP_NORESERVE, -1);
  char* shared = mapHuge(3, MAP_SHARED | MAP_ANONYMOUS | MAP_HUGETLB, -1);
  fill(written, HUGE, 1);
  written[HUGE + 1234567] = 5;
  fill(readOnly, HUGE, 2);
  fill(closed, 8192, 3);
  fill(sparse + 40 * HUGE, 4096, 4);
  check(!mprotect(readOnly, HUGE, PROT_READ) && !mprotect(closed, HUGE, PROT_NONE));

  int object = memfd_create("huge", MFD_HUGETLB | MFD_ALLOW_SEALING), other = memfd_create("other", MFD_HUGETLB);
  check(object >= 0 && other >= 0);
  check(!ftruncate(object, 3 * HUGE) && !ftruncate(other, 2 * HUGE));
  check(!fcntl(object, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK));
  char* one = mapHuge(3, MAP_SHARED, object);
  char* two = mmap(NULL, HUGE, PROT_READ | PROT_WRITE, MAP_SHARED, object, HUGE);
  check(two != MAP_FAILED);
  fill(one, 4096, 6);
  fill(two + 8192, 4096, 7);
  char* past = mapHuge(2, MAP_SHARED, other);
  fill(past + HUGE + 4096, 4096, 8);
  check(!munmap(past, 2 * HUGE));

  int segment = shmget(0x4001, 2 * HUGE, IPC_CREAT | SHM_HUGETLB | 0600), left = shmget(0x4002, HUGE - 5, IPC_CREAT | SHM_HUGETLB | 0600);
  if (segment < 0 || left < 0) fail("no segment of huge pages");
  char* attached = shmat(segment, NULL, 0);
  char* detached = shmat(left, NULL, 0);
  fill(attached + HUGE, 4096, 9);
  fill(detached, 4096, 10);
  check(!shmdt(detached));

  check(!pipe(ask) && !pipe(answer));
  if (fork() == 0) {
    close(ask[1]);
    for (uint64_t seed; read(ask[0], &seed, sizeof seed) == sizeof seed;) {
      // What was private at the fork is this process's own.
      if (!isFilled(written, HUGE, 1)) _exit(1);
      written[2 * HUGE + 7] = seed;
      fill(shared + HUGE, 4096, seed);
      if (write(answer[1], "", 1) != 1) _exit(1);
    }
    _exit(0);
  }
  close(ask[0]);
  childFills(shared, 0);
  begin();
  for (uint64_t round = 1;; round++) {
    next();
    const char* areas[] = {written, readOnly, closed, sparse, shared, one, two, attached};
    for (int i = 0; i < 8; i++) equal(pageSizeAt(areas[i]), HUGE);
    check(isFilled(written, HUGE, round) && written[HUGE + 1234567] == 5 && isByte(written + HUGE, 1234567, 0));
    check(isByte(written + 2 * HUGE, HUGE, 0));
    check(isFilled(readOnly, HUGE, 2));
    check(!mprotect(closed, HUGE, PROT_READ) && isFilled(closed, 8192, 3) && !mprotect(closed, HUGE, PROT_NONE));
    check(isFilled(sparse + 40 * HUGE, 4096, 4) && isByte(sparse + 40 * HUGE + 4096, HUGE - 4096, 0));
    check(isFilled(shared + HUGE, 4096, round - 1) && isByte(shared, HUGE, 0));
    check(isFilled(one, 4096, 5 + round) && isFilled(one + HUGE + 8192, 4096, 6 + round) && !memcmp(one + HUGE, two, HUGE));
    equal(fcntl(object, F_GET_SEALS), F_SEAL_GROW | F_SEAL_SHRINK);
    char page[4096];
    check(pread(other, page, sizeof page, HUGE + 4096) == sizeof page && isFilled(page, sizeof page, 8));
    check(pread(other, page, sizeof page, 0) == sizeof page && isByte(page, sizeof page, 0));
    check(isFilled(attached + HUGE, 4096, 8 + round));
    struct shmid_ds d;
    check(!shmctl(left, IPC_STAT, &d));
    equal(d.shm_segsz, HUGE - 5);
    detached = shmat(left, NULL, 0);
    check(detached != (char*)-1 && isFilled(detached, 4096, 10));
    equal(pageSizeAt(detached), HUGE);
    check(!shmdt(detached));

    fill(written, HUGE, round + 1);
    childFills(shared, round);
    fill(one, 4096, 6 + round);
    fill(two + 8192, 4096, 7 + round);
    fill(attached + HUGE, 4096, 9 + round);
    ok();
  }
}
