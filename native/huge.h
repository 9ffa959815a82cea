// Memory of huge pages (hugetlb): what the clones have of it, and how it is read. See docs/decisions/0035-huge-pages.md.
#pragma once
#include <napi.h>
#include <unistd.h>
#include <map>
#include <memory>
#include "shadow.h"

namespace understudy {

// Of one private mapping space (keyed by address) or of one shared object (keyed by offset).
struct HugeContent {
  // Of each 4 KiB page as it was sent last: 0: zeros; else 1 + its first word that is not zero.
  struct Block {
    uint16_t words[512] = {};
    unsigned live = 0;
  };
  static constexpr uint64_t kBlock = 2 << 20;

  Shadow shadow;
  std::map<uint64_t, Block> blocks;
  bool zeroNow = false;

  static uint16_t firstWord(const char* page) {
    auto* w = (const uint64_t*)page;
    for (int i = 0; i < 512; i++)
      if (w[i]) return i + 1;
    return 0;
  }

  // Notes what a page is now (`zeroNow`); returns whether it was other than zeros.
  bool note(uint64_t key, const char* page) {
    uint16_t word = firstWord(page);
    zeroNow = word == 0;
    auto it = blocks.find(key / kBlock);
    if (it == blocks.end()) {
      if (zeroNow) return false;
      it = blocks.emplace(key / kBlock, Block{}).first;
    }
    Block& block = it->second;
    uint16_t& was = block.words[key % kBlock / kPage];
    bool before = was != 0;
    block.live += (int)!zeroNow - (int)before;
    was = word;
    if (block.live == 0) blocks.erase(it);
    return before;
  }

  void forgetShadow(uint64_t from, uint64_t to) {
    for (uint64_t a = from; a < to; a += kPage)
      if (char* content = shadow.pages.erase(a)) shadow.spare.push_back(content);
  }

  // A range is zeros for the clones, too.
  void forget(uint64_t from, uint64_t to) {
    static const char zeros[kPage] = {};
    for (auto it = blocks.lower_bound(from / kBlock); it != blocks.end() && it->first * kBlock < to;) {
      uint64_t base = it->first * kBlock;
      uint64_t first = std::max(from, base), last = std::min(to, base + kBlock);
      ++it;  // `note` may take the block away
      forgetShadow(first, last);
      for (uint64_t key = first; key < last && blocks.count(base / kBlock); key += kPage) note(key, zeros);
    }
  }
};

// Where a range of huge pages is read: never by pinning its pages, which would divide what a fork shares, nor through a mapping
// that has no page there, which would make one.
struct HugeSource {
  uint64_t start, end, shift;
  int fd;
  std::shared_ptr<HugeContent> content;

  // Reads pages that follow each other; returns how many were there.
  size_t read(uint64_t from, uint64_t pages, char* to, uint64_t* addresses) const {
    size_t n = 0;
    for (uint64_t done = 0; done < pages; done++) {
      ssize_t got = pread(fd, to + n * kPage, (pages - done) * kPage, from + shift + done * kPage);
      uint64_t whole = got > 0 ? got / kPage : 0;
      for (uint64_t p = 0; p < whole; p++) addresses[n++] = from + (done + p) * kPage;
      // Behind them is one that is not there.
      done += whole;
    }
    return n;
  }
};

struct HugeSources {
  std::vector<HugeSource> list;  // sorted

  // The source at an address; `end` is moved to where that changes, if it does before.
  HugeSource* at(uint64_t address, uint64_t* end) {
    for (auto& source : list) {
      if (source.end <= address) continue;
      if (source.start > address) {
        if (source.start < *end) *end = source.start;
        return nullptr;
      }
      if (source.end < *end) *end = source.end;
      return &source;
    }
    return nullptr;
  }
};

inline HugeSources* hugeSources(const Napi::Value& v) {
  return v.IsExternal() ? v.As<Napi::External<HugeSources>>().Data() : nullptr;
}

}  // namespace understudy
