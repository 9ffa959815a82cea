// AMX: a thread with tiles full of numbers that spins on them, and a process that has asked for them and uses them only later.
// On a processor without them nothing is left to check.
#include "program.h"
#include <pthread.h>

#define TILE 1024
static const long kAsk = 0x1023, kTileData = 18;

static void ask(void) {
  if (syscall(SYS_arch_prctl, kAsk, kTileData)) {
    check(errno == EINVAL || errno == EOPNOTSUPP);
    begin();
    for (;;) next(), ok();
  }
}

static void configure(void) {
  unsigned char configuration[64] __attribute__((aligned(64))) = {1};
  for (int i = 0; i < 8; i++) configuration[16 + 2 * i] = 64, configuration[48 + i] = 16;
  __asm__ volatile(".byte 0xc4,0xe2,0x78,0x49,0x07" : : "D"(configuration), "m"(configuration));  // ldtilecfg [rdi]
}

// tileloadd tmm5, [rdi + rsi]; some turns; tilestored [rdx + rsi], tmm5
static void through(const void* in, void* out, uint64_t turns) {
  __asm__ volatile(".byte 0xc4,0xe2,0x7b,0x4b,0x2c,0x37\n 1: dec %%rcx\n jnz 1b\n .byte 0xc4,0xe2,0x7a,0x4b,0x2c,0x32"
                   : "+c"(turns) : "D"(in), "S"(64l), "d"(out) : "memory");
}

static volatile uint64_t rounds;

static void* spin(void* argument) {
  static uint64_t in[TILE / 8], out[TILE / 8];
  configure();
  for (;; rounds++) {
    fill(in, TILE, rounds);
    through(in, out, 2000000);
    if (!isFilled(out, TILE, rounds)) fail("tmm5 is another in round %ld", (long)rounds);
  }
  return argument;
}

static void* late(void* argument) {
  uint64_t in[TILE / 8], out[TILE / 8];
  configure();
  fill(in, TILE, 77);
  through(in, out, 1);
  check(isFilled(out, TILE, 77));
  return argument;
}

int main(void) {
  pthread_t thread;
  ask();
  pid_t child = fork();
  check(child >= 0);
  if (child == 0) {
    sigset_t set;
    int signal;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    check(!sigwait(&set, &signal));
    check(!pthread_create(&thread, NULL, late, NULL) && !pthread_join(thread, NULL));
    _exit(0);
  }
  check(!pthread_create(&thread, NULL, spin, NULL));
  while (rounds < 2) sleepMs(1);
  begin();
  for (int checks = 0;; checks++) {
    next();
    uint64_t before = rounds;
    for (int n = 0; rounds < before + 2; n++) {
      if (n > 10000) fail("the thread does not go on");
      sleepMs(1);
    }
    if (checks == 0) {
      int status;
      check(!kill(child, SIGUSR2) && waitpid(child, &status, 0) == child);
      equal(status, 0);
    }
    ok();
  }
}
