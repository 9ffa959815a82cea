// What was sent last of pages.
#pragma once
#include <sys/mman.h>
#include <cstdint>
#include <set>
#include <vector>

namespace understudy {

constexpr uint64_t kPage = 4096;

// Page address to where its last sent content is: open addressing, so that a look-up costs one cache line.
class PageTable {
  struct Entry { uint64_t address; char* content; };  // content null: free; gone: was there
  std::vector<Entry> entries = std::vector<Entry>(1024);
  size_t used = 0, live = 0;
  static inline char* const gone = (char*)1;
  size_t place(uint64_t address) const { return ((address >> 12) * 0x9E3779B97F4A7C15ull >> 20) & (entries.size() - 1); }
  void grow() {
    std::vector<Entry> old(live * 4 > entries.size() ? entries.size() * 2 : entries.size());
    old.swap(entries);
    used = live = 0;
    for (auto& e : old) if (e.content && e.content != gone) insert(e.address, e.content);
  }
 public:
  void prefetch(uint64_t address) const { __builtin_prefetch(&entries[place(address)]); }
  char* find(uint64_t address) const {
    for (size_t i = place(address);; i = (i + 1) & (entries.size() - 1)) {
      const Entry& e = entries[i];
      if (!e.content) return nullptr;
      if (e.address == address && e.content != gone) return e.content;
    }
  }
  void insert(uint64_t address, char* content) {
    if ((used + 1) * 2 > entries.size()) grow();
    size_t i = place(address);
    while (entries[i].content) i = (i + 1) & (entries.size() - 1);
    entries[i] = {address, content};
    used++;
    live++;
  }
  size_t size() const { return live; }
  // Takes out what `forget` says yes to.
  template <typename F> void eraseIf(F forget) {
    for (auto& e : entries)
      if (e.content && e.content != gone && forget(e.address, e.content)) { e.content = gone; live--; }
  }
  char* erase(uint64_t address) {
    for (size_t i = place(address);; i = (i + 1) & (entries.size() - 1)) {
      Entry& e = entries[i];
      if (!e.content) return nullptr;
      if (e.address != address || e.content == gone) continue;
      char* content = e.content;
      e.content = gone;
      live--;
      return content;
    }
  }
};

// The last sent content of pages, to send only what changed in them. Bounded: pages beyond the limit are sent whole.
struct Shadow {
  PageTable pages;
  std::set<uint64_t> blocks;  // what a page table covers (2 MiB), where something was sent
  std::vector<char*> chunks, spare;
  size_t limit;
  ~Shadow() {
    for (char* c : chunks) munmap(c, 512 * kPage);
  }
  char* slot() {
    if (spare.empty()) {
      if (chunks.size() * 512 >= limit) return nullptr;
      void* m = mmap(nullptr, 512 * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      if (m == MAP_FAILED) return nullptr;
      chunks.push_back((char*)m);
      for (int i = 511; i >= 0; i--) spare.push_back((char*)m + i * kPage);
    }
    char* s = spare.back();
    spare.pop_back();
    return s;
  }
};

}  // namespace understudy
