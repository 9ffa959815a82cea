// CRC-32C (Castagnoli) by the processor's own instruction, SSE 4.2: the digest of a stream (src/replication/frames.ts).
#include "addon.h"
#include <nmmintrin.h>

namespace understudy {

// The instruction gives a result every cycle, but only after three: so three parts of a piece are taken side by side.
constexpr size_t kPart = 1024;

// What zeros behind it, a part's length of them, make of a register: linear in its bits, so a table for each byte of it will do.
struct Behind {
  uint32_t of[4][256] = {};

  __attribute__((target("sse4.2"))) Behind() {
    uint32_t column[32];
    for (int bit = 0; bit < 32; bit++) {
      uint64_t r = 1u << bit;
      for (size_t i = 0; i < kPart; i += 8) r = _mm_crc32_u64(r, 0);
      column[bit] = (uint32_t)r;
    }
    for (int byte = 0; byte < 4; byte++)
      for (int value = 0; value < 256; value++)
        for (int bit = 0; bit < 8; bit++)
          if (value >> bit & 1) of[byte][value] ^= column[byte * 8 + bit];
  }

  uint32_t operator()(uint32_t r) const {
    return of[0][r & 0xff] ^ of[1][r >> 8 & 0xff] ^ of[2][r >> 16 & 0xff] ^ of[3][r >> 24];
  }
};

static inline uint64_t load(const uint8_t* at) {
  uint64_t value;
  memcpy(&value, at, sizeof value);
  return value;
}

__attribute__((target("sse4.2"))) static uint32_t crc32c(const uint8_t* at, size_t length, uint32_t previous) {
  static const Behind behind;
  uint64_t r = (uint32_t)~previous;
  for (; length >= 3 * kPart; at += 3 * kPart, length -= 3 * kPart) {
    uint64_t second = 0, third = 0;
    for (size_t i = 0; i < kPart; i += 8) {
      r = _mm_crc32_u64(r, load(at + i));
      second = _mm_crc32_u64(second, load(at + kPart + i));
      third = _mm_crc32_u64(third, load(at + 2 * kPart + i));
    }
    r = behind(behind((uint32_t)r) ^ (uint32_t)second) ^ (uint32_t)third;
  }
  for (; length >= 8; at += 8, length -= 8) r = _mm_crc32_u64(r, load(at));
  uint32_t rest = (uint32_t)r;
  for (; length > 0; at++, length--) rest = _mm_crc32_u8(rest, *at);
  return ~rest;
}

// crc32c(bytes, previous): of what `previous` is of and the bytes behind it; 0 for nothing.
static Napi::Value crc(const Napi::CallbackInfo& info) {
  size_t length;
  auto* bytes = data<uint8_t>(info[0], &length);
  return Napi::Number::New(info.Env(), crc32c(bytes, length, (uint32_t)word(info[1])));
}

void addCrc32c(Napi::Env env, Napi::Object exports) { add(env, exports, "crc32c", crc); }

}  // namespace understudy
