// Digests of pages that two nodes compare: which of one's pages the other has, without showing it.
#include "addon.h"

namespace understudy {

constexpr uint64_t kPage = 4096, kWords = kPage / 8;
constexpr uint32_t kNone = ~0u;

struct Digest {
  uint64_t low, high;
  bool operator==(const Digest&) const = default;
};

// SipHash-2-4 with 128 bits (Aumasson, Bernstein 2012) of whole words.
struct Sip {
  uint64_t v0, v1, v2, v3;
  static uint64_t rotate(uint64_t x, int b) { return x << b | x >> (64 - b); }
  void round() {
    v0 += v1; v1 = rotate(v1, 13); v1 ^= v0; v0 = rotate(v0, 32);
    v2 += v3; v3 = rotate(v3, 16); v3 ^= v2;
    v0 += v3; v3 = rotate(v3, 21); v3 ^= v0;
    v2 += v1; v1 = rotate(v1, 17); v1 ^= v2; v2 = rotate(v2, 32);
  }
  void take(uint64_t m) {
    v3 ^= m;
    round();
    round();
    v0 ^= m;
  }
  uint64_t finish() {
    for (int i = 0; i < 4; i++) round();
    return v0 ^ v1 ^ v2 ^ v3;
  }
};

static Digest sipOf(const uint64_t* words, size_t n, const uint64_t* key) {
  Sip s = {key[0] ^ 0x736f6d6570736575ull, key[1] ^ 0x646f72616e646f6dull ^ 0xee, key[0] ^ 0x6c7967656e657261ull,
           key[1] ^ 0x7465646279746573ull};
  for (size_t i = 0; i < n; i++) s.take(words[i]);
  s.take((uint64_t)(8 * n) << 56);
  s.v2 ^= 0xee;
  Digest d = {s.finish(), 0};
  s.v1 ^= 0xdd;
  d.high = s.finish();
  return d;
}

// By a secret of the connection, so that nobody whose data are in the memory can look for two pages of one digest: NH of UMAC
// (RFC 4418, 5.2) on 64-bit words, twice with keys of their own (two pages are equal in it with a probability of 2^-128), and
// SipHash of that. A tenth of the time of SipHash over the page.
class Digester {
  uint64_t seed_[2] = {}, keys_[2 * kWords];
  bool made_ = false;

 public:
  void use(const uint64_t* seed) {
    if (made_ && seed[0] == seed_[0] && seed[1] == seed_[1]) return;
    memcpy(seed_, seed, sizeof seed_);
    for (uint64_t i = 0; i < 2 * kWords; i += 2) {
      Digest d = sipOf(&i, 1, seed);
      keys_[i] = d.low;
      keys_[i + 1] = d.high;
    }
    made_ = true;
  }

  __attribute__((optimize("O3"))) Digest of(const char* bytes) const {
    auto* page = (const uint64_t*)bytes;
    unsigned __int128 first = 0, second = 0;
    for (size_t i = 0; i < kWords; i += 2) {
      first += (unsigned __int128)(page[i] + keys_[i]) * (page[i + 1] + keys_[i + 1]);
      second += (unsigned __int128)(page[i] + keys_[kWords + i]) * (page[i + 1] + keys_[kWords + i + 1]);
    }
    uint64_t words[4] = {(uint64_t)first, (uint64_t)(first >> 64), (uint64_t)second, (uint64_t)(second >> 64)};
    return sipOf(words, 4, seed_);
  }
};

static Digester& digester(const uint64_t* seed) {
  static Digester made;
  made.use(seed);
  return made;
}

// keyedDigests(bytes, pages, key 16 bytes, out BigUint64Array[two words a page])
static Napi::Value keyedDigests(const Napi::CallbackInfo& info) {
  auto* bytes = data<char>(info[0]);
  size_t pages = word(info[1]);
  auto& by = digester(data<uint64_t>(info[2]));
  auto* out = data<Digest>(info[3]);
  for (size_t p = 0; p < pages; p++) out[p] = by.of(bytes + p * kPage);
  return Napi::Number::New(info.Env(), pages);
}

// indexDigests(digests, table Uint32Array of a power of two, at least twice as many): the first place of each digest, by open
// addressing.
static Napi::Value indexDigests(const Napi::CallbackInfo& info) {
  size_t count, room;
  auto* digests = data<Digest>(info[0], &count);
  auto* table = data<uint32_t>(info[1], &room);
  for (size_t i = 0; i < room; i++) table[i] = kNone;
  for (size_t i = 0; i < count; i++) {
    size_t at = digests[i].low & (room - 1);
    while (table[at] != kNone && !(digests[table[at]] == digests[i])) at = (at + 1) & (room - 1);
    if (table[at] == kNone) table[at] = i;
  }
  return Napi::Number::New(info.Env(), count);
}

// findPages(bytes, pages, key, digests, table, found Uint32Array): for each page the place of its digest in `digests`, or all bits
// set. Where the page before was found, the place behind that one is tried first: what was side by side mostly still is. Returns
// how many were found.
static Napi::Value findPages(const Napi::CallbackInfo& info) {
  auto* bytes = data<char>(info[0]);
  size_t pages = word(info[1]), count, room, hits = 0;
  auto& by = digester(data<uint64_t>(info[2]));
  auto* digests = data<Digest>(info[3], &count);
  auto* table = data<uint32_t>(info[4], &room);
  auto* found = data<uint32_t>(info[5]);
  uint32_t next = 0;
  for (size_t p = 0; p < pages; p++) {
    Digest d = by.of(bytes + p * kPage);
    uint32_t place = next < count && digests[next] == d ? next : kNone;
    for (size_t at = d.low & (room - 1); place == kNone && table[at] != kNone; at = (at + 1) & (room - 1))
      if (digests[table[at]] == d) place = table[at];
    found[p] = place;
    if (place == kNone) continue;
    hits++;
    next = place + 1;
  }
  return Napi::Number::New(info.Env(), hits);
}

void addPageDigests(Napi::Env env, Napi::Object exports) {
  add(env, exports, "keyedDigests", keyedDigests);
  add(env, exports, "indexDigests", indexDigests);
  add(env, exports, "findPages", findPages);
}

}  // namespace understudy
