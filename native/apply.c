// Runs inside a clone's stopped process, on its scratch memory: writes a page stream (see memory.cc) that lies in a window
// shared with the instance into the process's own memory. No libc, position-independent, one function; ends in a breakpoint.
// Copying here costs what memcpy costs; from outside every page would have to be pinned first.
#include <stdint.h>

struct Record {
  uint64_t address;
  uint16_t kind, patches;
  uint32_t bytes;
} __attribute__((packed));

static inline void copy(uint64_t to, const char* from, uint64_t n) {
  __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
}

static inline void zero(uint64_t to, uint64_t n) {
  __asm__ volatile("rep stosb" : "+D"(to), "+c"(n) : "a"(0) : "memory");
}

__attribute__((section(".text.entry"))) void apply(const char* p, const char* end) {
  while (p < end) {
    const struct Record* r = (const struct Record*)p;
    p += sizeof *r;
    if (r->kind == 0) {
      copy(r->address, p, r->bytes);
      p += r->bytes;
    } else if (r->kind == 1) {
      const uint16_t* q = (const uint16_t*)p;
      p += 4 * r->patches;
      for (unsigned i = 0; i < r->patches; i++) {
        copy(r->address + q[2 * i], p, q[2 * i + 1]);
        p += q[2 * i + 1];
      }
    } else {
      zero(r->address, (uint64_t)r->bytes * 4096);
    }
  }
  __asm__ volatile("int3");
}
