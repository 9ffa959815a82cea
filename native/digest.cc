// Digests of pages: which of many have changed against what was seen last, without keeping what was seen.
#include "addon.h"
#include <sys/random.h>

namespace understudy {

constexpr uint64_t kPage = 4096, kWords = kPage / 8;

// NH of UMAC (RFC 4418, 5.2) on 64-bit words with a secret key of its own in each process: whatever two pages hold, their
// digests are equal with a probability of 2^-64.
struct Digest {
  uint64_t low, high;
};

static const uint64_t* keys() {
  static uint64_t words[kWords];
  static bool made = [] {
    for (size_t done = 0; done < sizeof words;) {
      ssize_t n = getrandom((char*)words + done, sizeof words - done, 0);
      if (n > 0) done += n;
    }
    return true;
  }();
  (void)made;
  return words;
}

__attribute__((optimize("O3"))) static Digest digestOf(const uint64_t* page, const uint64_t* key) {
  unsigned __int128 sum = 0;
  for (size_t i = 0; i < kWords; i += 2) sum += (unsigned __int128)(page[i] + key[i]) * (page[i + 1] + key[i + 1]);
  Digest d = {(uint64_t)sum, (uint64_t)(sum >> 64)};
  // Two values have a meaning of their own, see below.
  if (d.low == d.high && (d.low == 0 || d.low == ~0ull)) d.low ^= 1;
  return d;
}

static bool isZero(const uint64_t* w) {
  for (size_t i = 0; i < kWords; i += 8)
    if (w[i] | w[i + 1] | w[i + 2] | w[i + 3] | w[i + 4] | w[i + 5] | w[i + 6] | w[i + 7]) return false;
  return true;
}

// digestPages(bytes, pages, digests BigUint64Array[two words a page], first, changed Uint8Array): compares pages with the
// digests from page `first` on and replaces those that differ. All bits 0: a page of zeros; all bits 1: not known, always
// differs. `changed`: 0 as it was, 1 other content, 2 zeros now. Returns how many changed.
static Napi::Value digestPages(const Napi::CallbackInfo& info) {
  auto* pages = data<uint64_t>(info[0]);
  size_t count = word(info[1]), first = word(info[3]), found = 0;
  auto* digests = data<Digest>(info[2]) + first;
  auto* changed = data<uint8_t>(info[4]);
  const uint64_t* key = keys();
  for (size_t p = 0; p < count; p++) {
    const uint64_t* page = pages + p * kWords;
    bool zero = isZero(page);
    Digest now = zero ? Digest{0, 0} : digestOf(page, key);
    bool same = now.low == digests[p].low && now.high == digests[p].high;
    changed[p] = same ? 0 : zero ? 2 : 1;
    if (same) continue;
    digests[p] = now;
    found++;
  }
  return Napi::Number::New(info.Env(), found);
}

void addDigest(Napi::Env env, Napi::Object exports) { add(env, exports, "digestPages", digestPages); }

}  // namespace understudy
