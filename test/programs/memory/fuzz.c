// A random walk over one large range: write, discard, unmap, map again, protect, at page granularity, in steps between which a
// checkpoint may fall anywhere. A model in shared nothing: seeds and states of all pages. Argument: a seed.
// Arguments: 1
// Arguments: 2
// Arguments: 3
#include "program.h"

#define PAGES 2048
enum { absent, zero, written };
static struct { uint8_t state, protection; uint64_t seed; } model[PAGES];
static char* base;

static int run(int page, int length, int state) {
  for (int i = 0; i < length; i++)
    if ((model[page + i].state == absent) != (state == absent)) return 0;
  return 1;
}

static void verify(void) {
  for (int i = 0; i < PAGES; i++) {
    char* p = base + i * 4096l;
    if (model[i].state == absent) continue;
    if (!(model[i].protection & PROT_READ)) check(!mprotect(p, 4096, PROT_READ));
    if (model[i].state == zero ? !isByte(p, 4096, 0) : !isFilled(p, 4096, model[i].seed))
      fail("page %d (%p), state %d, seed %lx, there is %lx", i, p, model[i].state, model[i].seed, *(uint64_t*)p);
    if (!(model[i].protection & PROT_READ)) check(!mprotect(p, 4096, model[i].protection));
  }
}

int main(int argc, char** argv) {
  uint64_t random = argc > 1 ? strtoull(argv[1], NULL, 0) * 2654435761u + 1 : 88172645463325252ull;
  base = mmap(NULL, PAGES * 4096l, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  for (int i = 0; i < PAGES; i++) model[i].state = zero, model[i].protection = 3;
  begin();
  for (long step = 0;; step++) {
    int large = nextRandom(&random) % 20 == 0;
    int length = 1 + nextRandom(&random) % (large ? 2000 : 24);
    int page = nextRandom(&random) % (PAGES - length);
    char* p = base + page * 4096l;
    switch (nextRandom(&random) % 8) {
      case 0:
        if (!run(page, length, zero)) break;
        check(!madvise(p, length * 4096l, MADV_DONTNEED));
        for (int i = 0; i < length; i++) model[page + i].state = zero;
        break;
      case 1:
        if (nextRandom(&random) % 4) break;
        check(!munmap(p, length * 4096l));
        for (int i = 0; i < length; i++) model[page + i].state = absent;
        break;
      case 2:
      case 3:
        check(mmap(p, length * 4096l, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == p);
        for (int i = 0; i < length; i++) model[page + i].state = zero, model[page + i].protection = 3;
        break;
      case 4: {
        if (!run(page, length, zero)) break;
        static const int protections[] = {PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE};
        int protection = protections[nextRandom(&random) % 3];
        check(!mprotect(p, length * 4096l, protection));
        for (int i = 0; i < length; i++) model[page + i].protection = protection;
        break;
      }
      default:
        if (large) length = length % 200 + 1;
        for (int i = 0; i < length; i++) {
          if (model[page + i].state == absent || !(model[page + i].protection & PROT_WRITE)) continue;
          model[page + i].seed = nextRandom(&random);
          model[page + i].state = written;
          fill(p + i * 4096l, 4096, model[page + i].seed);
        }
    }
    if (step % 64 == 0) {
      if (asked()) {
        verify();
        ok();
      }
      sleepMs(1);
    }
  }
}
