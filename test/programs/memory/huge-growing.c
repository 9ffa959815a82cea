// Huge pages (hugetlb) that become more with every question, private and shared in turn, of which a node may have too few.
// Huge pages: 120
#include "huge.h"

#define STEP 4
#define MOST 12

int main(void) {
  char* at[MOST];
  int steps = 0;
  begin();
  for (;;) {
    next();
    for (int i = 0; i < steps; i++) check(isFilled(at[i], HUGE, i) && isByte(at[i] + HUGE, 4096, 0));
    if (steps == MOST) {
      check(!munmap(at[--steps], STEP * HUGE));
      ok();
      continue;
    }
    int sharing = steps % 2 ? MAP_SHARED : MAP_PRIVATE;
    at[steps] = mapHuge(STEP, sharing | MAP_ANONYMOUS | MAP_HUGETLB, -1);
    fill(at[steps], HUGE, steps);
    steps++;
    ok();
  }
}
