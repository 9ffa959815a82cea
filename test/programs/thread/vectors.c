// All vector registers that this processor has, full of numbers, in threads that spin on them: x87, SSE, AVX, AVX-512.
#include "program.h"
#include <cpuid.h>
#include <immintrin.h>
#include <pthread.h>

static volatile uint64_t turns[3];

__attribute__((target("sse2"))) static void* spinSse(void* arg) {
  uint64_t in[2] = {0x1111222233334444, 0x5555666677778888}, out[2];
  for (;; turns[0]++) {
    __asm__ volatile("movdqu %1, %%xmm7\n mov $2000000, %%ecx\n 1: dec %%ecx\n jnz 1b\n movdqu %%xmm7, %0" : "=m"(out) : "m"(in) : "xmm7", "ecx");
    if (memcmp(in, out, 16)) fail("xmm7 is another");
    in[0] += 3;
  }
  return arg;
}

__attribute__((target("avx"))) static void* spinAvx(void* arg) {
  uint64_t in[4] = {1, 2, 3, 0x8877665544332211}, out[4];
  for (;; turns[1]++) {
    __asm__ volatile("vmovdqu %1, %%ymm15\n mov $2000000, %%ecx\n 1: dec %%ecx\n jnz 1b\n vmovdqu %%ymm15, %0\n vzeroupper" : "=m"(out) : "m"(in) : "xmm15", "ecx");
    if (memcmp(in, out, 32)) fail("ymm15 is another");
    in[3] += 5;
  }
  return arg;
}

__attribute__((target("avx512f"))) static void* spinAvx512(void* arg) {
  uint64_t in[8] = {9, 8, 7, 6, 5, 4, 3, 2}, out[8], mask = 0xa55a, maskOut;
  for (;; turns[2]++) {
    __asm__ volatile("vmovdqu64 %2, %%zmm31\n kmovw %k3, %%k3\n mov $2000000, %%ecx\n 1: dec %%ecx\n jnz 1b\n vmovdqu64 %%zmm31, %0\n kmovw %%k3, %%ecx\n mov %%rcx, %1"
                     : "=m"(out), "=m"(maskOut) : "m"(in), "r"((uint32_t)mask) : "xmm31", "k3", "rcx");
    if (memcmp(in, out, 64)) fail("zmm31 is another");
    if ((maskOut & 0xffff) != mask) fail("k3 is another");
    in[7] += 7;
  }
  return arg;
}

int main(void) {
  int has[3] = {1, __builtin_cpu_supports("avx"), __builtin_cpu_supports("avx512f")};
  void* (*spin[3])(void*) = {spinSse, spinAvx, spinAvx512};
  pthread_t t;
  for (int i = 0; i < 3; i++)
    if (has[i]) check(!pthread_create(&t, NULL, spin[i], NULL));
  double x = 1.25;
  uint16_t control = 0x0f7f, got;
  uint32_t mxcsr = 0x7fc0, gotMx;
  __asm__ volatile("fldcw %0\n ldmxcsr %1" : : "m"(control), "m"(mxcsr));
  begin();
  for (;;) {
    next();
    __asm__ volatile("fnstcw %0\n stmxcsr %1" : "=m"(got), "=m"(gotMx));
    equal(got, control);
    equal(gotMx & 0xffc0, mxcsr & 0xffc0);
    for (int i = 0; i < 3; i++) {
      if (!has[i]) continue;
      uint64_t before = turns[i];
      for (int n = 0; turns[i] < before + 2; n++) {
        if (n > 10000) fail("thread %d does not go on", i);
        sleepMs(1);
      }
    }
    check(x == 1.25);
    ok();
  }
}
