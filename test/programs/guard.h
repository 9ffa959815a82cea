// What the programs with guard areas share: putting them up (madvise(2)), and whether a touch is a SIGSEGV.
#ifndef GUARD_H
#define GUARD_H
#include "program.h"
#include <setjmp.h>

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE 103
#endif

static __thread sigjmp_buf back;

static void caught(int signal) {
  (void)signal;
  siglongjmp(back, 1);
}

static int isGuard(volatile char* at) {
  if (sigsetjmp(back, 1)) return 1;
  (void)*at;
  return 0;
}

// From here on `isGuard` may be asked.
static void expectGuards(void) { signal(SIGSEGV, caught); }
#endif
