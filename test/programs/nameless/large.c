// Large files without a name that nobody has mapped: memfd, deleted in /dev/shm, deleted on disk; filled by write(2), then
// overwritten in part, punched, shortened, grown, copied into, and written through memory that is mapped for a moment only.
#include "program.h"

#define BLOCK (256 << 10)
#define BLOCKS 256  // 64 MiB, of the first

struct File {
  int fd, blocks;
  off_t size;
  uint64_t seed[BLOCKS];  // 0: zeros
};

static char buffer[BLOCK], wanted[BLOCK];

static void put(struct File* f, int block, uint64_t seed) {
  fill(buffer, BLOCK, seed);
  check(pwrite(f->fd, buffer, BLOCK, (off_t)block * BLOCK) == BLOCK);
  f->seed[block] = seed;
  if (f->size < (block + 1ll) * BLOCK) f->size = (block + 1ll) * BLOCK;
}

// By memory that is there for this moment alone.
static void store(struct File* f, int block, uint64_t seed) {
  char* m = mmap(NULL, BLOCK, PROT_READ | PROT_WRITE, MAP_SHARED, f->fd, (off_t)block * BLOCK);
  check(m != MAP_FAILED);
  fill(m, BLOCK, seed);
  f->seed[block] = seed;
  munmap(m, BLOCK);
}

static void punch(struct File* f, int block) {
  check(!fallocate(f->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)block * BLOCK, BLOCK));
  f->seed[block] = 0;
}

static void resize(struct File* f, off_t size) {
  check(!ftruncate(f->fd, size));
  for (int b = (size + BLOCK - 1) / BLOCK; b < f->blocks; b++) f->seed[b] = 0;
  f->size = size;
}

static void verify(struct File* f, const char* name) {
  struct stat s;
  check(!fstat(f->fd, &s));
  equal(s.st_size, f->size);
  for (int b = 0; b < f->blocks; b++) {
    off_t at = (off_t)b * BLOCK;
    ssize_t n = f->size <= at ? 0 : f->size - at < BLOCK ? f->size - at : BLOCK;
    equal(pread(f->fd, buffer, BLOCK, at), n);
    memset(wanted, 0, BLOCK);
    if (f->seed[b]) fill(wanted, BLOCK, f->seed[b]);
    if (memcmp(buffer, wanted, n)) fail("%s: block %d is not of seed %lu", name, b, f->seed[b]);
  }
}

static void change(struct File* f, int round) {
  uint64_t seed = 1000 * round;
  int last = f->blocks - 1;
  put(f, 3 + round % 8, seed + 1);
  put(f, last - 20, seed + 2);
  punch(f, 20 + round % 8);
  store(f, 30 + round % 8, seed + 3);
  put(f, 12, 7), put(f, 12, seed + 4), put(f, 12, 7);  // back to what it was
  int cut = last - round % 2 * 8;
  resize(f, (off_t)cut * BLOCK + 1234);
  if (round % 2) resize(f, f->blocks * (off_t)BLOCK);
  punch(f, cut);
}

int main(void) {
  static struct File files[3];
  const char* names[] = {"memfd", "shm", "disk"};
  files[0].fd = memfd_create("large", 0);
  files[1].fd = open("/dev/shm/large", O_CREAT | O_RDWR, 0600);
  files[2].fd = open("/var/tmp/large", O_CREAT | O_RDWR, 0600);
  unlink("/dev/shm/large"), unlink("/var/tmp/large");
  for (int i = 0; i < 3; i++) {
    check(files[i].fd >= 0);
    files[i].blocks = BLOCKS >> i;
    for (int b = 0; b < files[i].blocks - 9; b++)
      if (b % 7) put(&files[i], b, i * 1000 + b + 1);
    put(&files[i], 12, 7);
    resize(&files[i], (off_t)files[i].blocks * BLOCK);
  }
  begin();
  for (int round = 1;; round++) {
    next();
    for (int i = 0; i < 3; i++) verify(&files[i], names[i]);
    for (int i = 0; i < 3; i++) change(&files[i], round);
    ok();
  }
}
