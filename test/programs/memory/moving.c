// In motion: maps, unmaps, moves, protects and writes all the time; keeps a list of what must be where.
#include "program.h"

#define SLOTS 24
#define PAGES 16

static struct { char* at; size_t pages; uint64_t seed; } slot[SLOTS];

int main(void) {
  uint64_t random = 12345;
  begin();
  for (;;) {
    for (int i = 0; i < 50; i++) {
      int s = nextRandom(&random) % SLOTS;
      switch (nextRandom(&random) % 5) {
        case 0:
          if (slot[s].at) {
            check(isFilled(slot[s].at, slot[s].pages * 4096, slot[s].seed));
            check(!munmap(slot[s].at, slot[s].pages * 4096));
          }
          slot[s].pages = 1 + nextRandom(&random) % PAGES;
          slot[s].at = mmap(NULL, slot[s].pages * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
          check(slot[s].at != MAP_FAILED);
          check(isByte(slot[s].at, slot[s].pages * 4096, 0));
          slot[s].seed = nextRandom(&random);
          fill(slot[s].at, slot[s].pages * 4096, slot[s].seed);
          break;
        case 1:
          if (!slot[s].at) break;
          check(!munmap(slot[s].at, slot[s].pages * 4096));
          slot[s].at = NULL;
          break;
        case 2: {
          if (!slot[s].at) break;
          size_t pages = 1 + nextRandom(&random) % PAGES;
          char* to = mremap(slot[s].at, slot[s].pages * 4096, pages * 4096, MREMAP_MAYMOVE);
          check(to != MAP_FAILED);
          check(isFilled(to, (pages < slot[s].pages ? pages : slot[s].pages) * 4096, slot[s].seed));
          if (pages > slot[s].pages) check(isByte(to + slot[s].pages * 4096, (pages - slot[s].pages) * 4096, 0));
          slot[s].at = to;
          slot[s].pages = pages;
          fill(to, pages * 4096, slot[s].seed);
          break;
        }
        case 3:
          if (!slot[s].at) break;
          check(!mprotect(slot[s].at, 4096, PROT_READ));
          check(isFilled(slot[s].at, slot[s].pages * 4096, slot[s].seed));
          check(!mprotect(slot[s].at, 4096, PROT_READ | PROT_WRITE));
          break;
        default:
          if (!slot[s].at) break;
          slot[s].seed = nextRandom(&random);
          fill(slot[s].at, slot[s].pages * 4096, slot[s].seed);
      }
    }
    for (int s = 0; s < SLOTS; s++)
      if (slot[s].at && !isFilled(slot[s].at, slot[s].pages * 4096, slot[s].seed)) fail("slot %d", s);
    if (asked()) ok();
    sleepMs(1);
  }
}
