// Values that live in general, vector and x87 registers only, through a loop that never stores them.
#include "program.h"
#include <pthread.h>
#include <cpuid.h>

static volatile int stop, failed, finished;
static int avx;

static void* vector(void* argument) {
  uint64_t seed = (uint64_t)argument;
  float floats[8], back[8];
  for (int i = 0; i < 8; i++) floats[i] = seed * 8 + i;
  while (!stop) {
    memset(back, 0, sizeof back);
    if (avx)
      __asm__ volatile("vmovups %1, %%ymm7\n mov $2000000, %%ecx\n1: dec %%ecx\n jnz 1b\n vmovups %%ymm7, %0\n"
                       : "=m"(back) : "m"(floats) : "ecx", "xmm7");
    else
      __asm__ volatile("movups %1, %%xmm7\n mov $2000000, %%ecx\n1: dec %%ecx\n jnz 1b\n movups %%xmm7, %0\n"
                       : "=m"(back) : "m"(floats) : "ecx", "xmm7");
    if (memcmp(floats, back, avx ? 32 : 16)) failed = 1;
    long double x = 3.25L + seed, y;
    __asm__ volatile("fldt %1\n mov $1000000, %%ecx\n1: dec %%ecx\n jnz 1b\n fstpt %0\n" : "=m"(y) : "m"(x) : "ecx", "st");
    if (x != y) failed = 2;
    uint64_t a = seed ^ 0x1111, b = seed ^ 0x2222, c = seed ^ 0x3333;
    __asm__ volatile("mov $1000000, %%ecx\n1: dec %%ecx\n jnz 1b\n" : "+r"(a), "+r"(b), "+r"(c) : : "ecx");
    if (a != (seed ^ 0x1111) || b != (seed ^ 0x2222) || c != (seed ^ 0x3333)) failed = 3;
  }
  __sync_fetch_and_add(&finished, 1);
  return NULL;
}

int main(void) {
  __builtin_cpu_init();
  avx = __builtin_cpu_supports("avx");
  // A rounding mode and an exception mask of its own.
  unsigned mxcsr = 0x1f80 | 0x6000, now;
  __asm__ volatile("ldmxcsr %0" : : "m"(mxcsr));
  pthread_t thread;
  for (uint64_t i = 1; i <= 2; i++) check(!pthread_create(&thread, NULL, vector, (void*)i));
  begin();
  for (;;) {
    next();
    __asm__ volatile("stmxcsr %0" : "=m"(now));
    equal(now & ~0x3fu, mxcsr);
    equal(failed, 0);
    ok();
  }
}
