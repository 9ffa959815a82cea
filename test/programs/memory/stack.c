// The stack grows far below what it was at the checkpoint before, and keeps its content.
#include "program.h"

static int deep(int level, int (*body)(void)) {
  volatile char frame[4096];
  fill((void*)frame, sizeof frame, level);
  int r = level == 0 ? body() : deep(level - 1, body);
  if (!isFilled((void*)frame, sizeof frame, level)) fail("frame %d", level);
  return r;
}

static int waits(void) {
  next();
  ok();
  return 0;
}

int main(void) {
  begin();
  next();
  ok();
  for (int round = 1;; round++) deep(round * 40 % 1000, waits);
}
