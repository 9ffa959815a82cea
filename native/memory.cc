// Loops over pages: find the written ones, copy them, encode what changed against the last sent content, write them.
//
// Page stream: records {u64 address, u16 kind, u16 patches, u32 bytes} followed by `patches` × {u16 offset, u16 length}
// and `bytes` bytes. kind 0: whole pages (bytes / 4096 of them from address on); 1: patches of one page; 2: zero pages
// (bytes holds the number of pages, no data follows); 3: dropped pages (as 2: madvise DONTNEED, back to zero or the file).
#include "addon.h"
#include "huge.h"
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>
#include <algorithm>
#include <vector>

namespace understudy {

struct Region { uint64_t start, end, categories; };
struct ScanArguments {
  uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
  uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};
constexpr uint64_t kUserEnd = 0x7ffffffff000;
constexpr unsigned long kPagemapScan = _IOWR('f', 16, ScanArguments);

// scan(pagemapFd, ranges BigUint64Array[start,end…], flags, inverted, mask, anyof, returned, out BigUint64Array[3 each]):
// runs PAGEMAP_SCAN over the ranges (kernel 6.7). Returns the number of regions, −errno, or −ENOSPC when `out` is full.
static Napi::Value scan(const Napi::CallbackInfo& info) {
  int fd = word(info[0]);
  size_t words, room;
  auto* ranges = data<uint64_t>(info[1], &words);
  auto* out = data<uint64_t>(info[7], &room);
  room /= 3;
  size_t found = 0;
  for (size_t i = 0; i + 1 < words; i += 2) {
    uint64_t start = ranges[i];
    while (start < ranges[i + 1]) {
      if (found >= room) return Napi::Number::New(info.Env(), -ENOSPC);
      ScanArguments a = {};
      a.size = sizeof a;
      a.flags = word(info[2]);
      a.start = start;
      a.end = ranges[i + 1];
      a.vec = (uint64_t)(out + 3 * found);
      a.vec_len = room - found;
      a.category_inverted = word(info[3]);
      a.category_mask = word(info[4]);
      a.category_anyof_mask = word(info[5]);
      a.return_mask = word(info[6]);
      long n = ioctl(fd, kPagemapScan, &a);
      if (n < 0) return Napi::Number::New(info.Env(), -errno);
      found += n;
      if (a.walk_end <= start) break;
      start = a.walk_end;
    }
  }
  return Napi::Number::New(info.Env(), found);
}

// anyOutside(regions, count, ranges BigUint64Array[start,end…]): whether a region is not wholly inside one of the ranges. Both
// sorted; neighbouring ranges are joined.
static Napi::Value anyOutside(const Napi::CallbackInfo& info) {
  auto* regions = data<uint64_t>(info[0]);
  size_t count = word(info[1]), words, j = 0;
  auto* ranges = data<uint64_t>(info[2], &words);
  for (size_t i = 0; i < count; i++) {
    while (j < words && ranges[j + 1] < regions[3 * i + 1]) j += 2;
    if (j >= words || regions[3 * i] < ranges[j]) return Napi::Boolean::New(info.Env(), true);
  }
  return Napi::Boolean::New(info.Env(), false);
}

// Where a walk over regions stands.
struct Cursor {
  size_t region;
  uint64_t from;
};

static uint64_t pagesBetween(const uint64_t* regions, size_t count, Cursor from, const Cursor& to) {
  uint64_t bytes = 0;
  while (from.region < to.region) {
    bytes += regions[3 * from.region + 1] - from.from;
    if (++from.region == count) return bytes / kPage;
    from.from = regions[3 * from.region];
  }
  return (bytes + (to.from - from.from)) / kPage;
}

// Reads up to `most` pages from the cursor on into `to` and notes their addresses. Pages that are gone are left out. One call reads
// either huge pages of one source or other pages.
static size_t readPages(pid_t pid, int mem, const uint64_t* regions, size_t count, Cursor& c, char* to, uint64_t* addresses, size_t most, HugeSources* huge) {
  static std::vector<iovec> remote;
  remote.clear();
  size_t n = 0;
  while (c.region < count && remote.size() < 512 && n < most) {
    uint64_t end = regions[3 * c.region + 1];
    HugeSource* source = huge ? huge->at(c.from, &end) : nullptr;
    if (source && n > 0) break;
    uint64_t pages = std::min<uint64_t>((end - c.from) / kPage, most - n);
    if (source) n = source->read(c.from, pages, to, addresses);
    else remote.push_back({(void*)c.from, pages * kPage});
    if (!source) for (uint64_t p = 0; p < pages; p++) addresses[n++] = c.from + p * kPage;
    c.from += pages * kPage;
    if (c.from == regions[3 * c.region + 1] && ++c.region < count) c.from = regions[3 * c.region];
    if (source) return n;
  }
  if (n == 0) return 0;
  iovec local = {to, n * kPage};
  ssize_t got = process_vm_readv(pid, &local, 1, remote.data(), remote.size(), 0);
  if (got == (ssize_t)local.iov_len) return n;
  // A page that this call may not read (PROT_NONE, gone): one by one, through /proc/PID/mem, which may read all.
  size_t keep = got > 0 ? got / kPage : 0;
  for (size_t p = keep; p < n; p++) {
    if (pread(mem, to + keep * kPage, kPage, addresses[p]) != (ssize_t)kPage) continue;
    addresses[keep++] = addresses[p];
  }
  return keep;
}

// copyPages(pid, memFd, regions, count, staging, addresses BigUint64Array, first, huge or null): reads all pages of the regions into
// staging from page `first` on and notes each page's address. Pages that vanished meanwhile (running application) are left
// out. Returns the new number of pages in staging, or −ENOSPC.
static Napi::Value copyPages(const Napi::CallbackInfo& info) {
  pid_t pid = word(info[0]);
  int mem = word(info[1]);
  auto* regions = data<uint64_t>(info[2]);
  size_t count = word(info[3]);
  size_t bytes, n;
  auto* staging = data<char>(info[4], &bytes);
  auto* addresses = data<uint64_t>(info[5], &n);
  size_t at = word(info[6]), room = std::min(bytes / kPage, n);
  size_t needed = at;
  for (size_t i = 0; i < count; i++) needed += (regions[3 * i + 1] - regions[3 * i]) / kPage;
  if (needed > room) return Napi::Number::New(info.Env(), -ENOSPC);
  Cursor c = {0, count ? regions[0] : 0};
  while (c.region < count) at += readPages(pid, mem, regions, count, c, staging + at * kPage, addresses + at, 1024, hugeSources(info[7]));
  return Napi::Number::New(info.Env(), at);
}

static Napi::Value shadowNew(const Napi::CallbackInfo& info) {
  auto* s = new Shadow;
  s->limit = word(info[0]);
  return Napi::External<Shadow>::New(info.Env(), s, [](Napi::Env, Shadow* s) { delete s; });
}

static Shadow* shadow(const Napi::Value& v) {
  return v.IsExternal() ? v.As<Napi::External<Shadow>>().Data() : nullptr;
}

// shadowDrop(shadow, start, end): forgets the pages of a range, because the clone's are gone too.
static Napi::Value shadowDrop(const Napi::CallbackInfo& info) {
  auto* s = shadow(info[0]);
  uint64_t start = word(info[1]), end = word(info[2]);
  size_t before = s->pages.size();
  if ((end - start) / kPage < before) {
    for (uint64_t a = start; a < end; a += kPage)
      if (char* content = s->pages.erase(a)) s->spare.push_back(content);
  } else {
    s->pages.eraseIf([&](uint64_t address, char* content) {
      if (address < start || address >= end) return false;
      s->spare.push_back(content);
      return true;
    });
  }
  return Napi::Number::New(info.Env(), before - s->pages.size());
}

// holes(shadow, pagemapFd, out BigUint64Array): blocks in which something was sent and that have no page table any more: given
// back by madvise(DONTNEED) as a whole, which a scan for written pages does not report (one that has its table is reported page
// by page). Writes their start addresses and forgets them. Returns how many, or −errno.
static Napi::Value holes(const Napi::CallbackInfo& info) {
  auto* s = shadow(info[0]);
  int fd = word(info[1]);
  size_t room, found = 0;
  auto* out = data<uint64_t>(info[2], &room);
  Region first;
  ScanArguments a = {};
  a.size = sizeof a;
  a.vec = (uint64_t)&first;
  a.vec_len = 1;
  // A block is asked for its first page only: nearly always the first entry of its table answers, where a look at all would read
  // the page tables of the whole memory.
  a.max_pages = 1;
  a.category_anyof_mask = 8 | 16;  // present, or swapped out, or the kernel's marker of a protected page never touched
  a.return_mask = 8;
  for (auto it = s->blocks.begin(); it != s->blocks.end() && found < room;) {
    a.start = *it << 21;
    // The last block is not whole: behind it nothing may be asked for (EFAULT).
    a.end = std::min<uint64_t>(a.start + (1ull << 21), kUserEnd);
    long n = ioctl(fd, kPagemapScan, &a);
    if (n < 0) return Napi::Number::New(info.Env(), -errno);
    if (n > 0) { ++it; continue; }
    out[found++] = a.start;
    it = s->blocks.erase(it);
  }
  return Napi::Number::New(info.Env(), found);
}

struct Record { uint64_t address; uint16_t kind, patches; uint32_t bytes; };

__attribute__((target_clones("avx512f", "avx2", "default"), optimize("O3"))) static uint64_t differingLines(const char* x, const char* y) {
  uint64_t lines = 0;
  for (int line = 0; line < 64; line++) {
    auto* a = (const uint64_t*)(x + 64 * line);
    auto* b = (const uint64_t*)(y + 64 * line);
    uint64_t d = 0;
    for (int i = 0; i < 8; i++) d |= a[i] ^ b[i];
    lines |= (uint64_t)(d != 0) << line;
  }
  return lines;
}

static bool isZero(const char* p) {
  auto* w = (const uint64_t*)p;
  if (w[0] | w[511] | w[255]) return false;
  for (int i = 0; i < 512; i += 8)
    if (w[i] | w[i + 1] | w[i + 2] | w[i + 3] | w[i + 4] | w[i + 5] | w[i + 6] | w[i + 7]) return false;
  return true;
}

// Writes page streams: see the top.
struct Encoder {
  Shadow* s;
  bool all;                // every page as it is, because a receiver that does not have the shadow's content reads along
  const uint64_t* shared;  // memory that others write too: what was sent last from here need not be what the clone has
  size_t sharedWords;
  char* out;
  size_t room, at;
  HugeSources* huge;
  uint64_t block = ~0ull;
  Record* run = nullptr;  // whole pages that follow each other share a record

  bool isShared(uint64_t a) const {
    for (size_t i = 0; i + 1 < sharedWords; i += 2)
      if (a >= shared[i] && a < shared[i + 1]) return true;
    return false;
  }

  // Room for the worst that `n` pages can become.
  bool fits(size_t n) const { return at + n * (sizeof(Record) + kPage) + 4 * 64 <= room; }

  // Appends what the pages have become; unchanged ones produce nothing.
  void add(const char* staging, const uint64_t* addresses, size_t from, size_t to) {
    for (size_t p = from; p < to; p++) {
      if (s && p + 8 < to) s->pages.prefetch(addresses[p + 8]);
      one(staging + p * kPage, addresses[p]);
    }
  }

  void one(const char* page, uint64_t address) {
    if (huge)
      if (uint64_t end = address + kPage; HugeSource* source = huge->at(address, &end)) {
        uint64_t key = address + source->shift;
        // What was never other than zero is that on every clone.
        if (source->content->note(key, page) || !source->content->zeroNow) one(page, address, &source->content->shadow, key, false);
        return;
      }
    if (s && (address >> 21) != block) s->blocks.insert(block = address >> 21);
    one(page, address, s, address, sharedWords && isShared(address));
  }

  // `key`: the page's in this shadow.
  void one(const char* page, uint64_t address, Shadow* s, uint64_t key, bool othersWrite) {
    char* old = nullptr;
    bool known = false;
    if (s && !othersWrite) {
      if ((old = s->pages.find(key))) known = true;
      else if ((old = s->slot())) s->pages.insert(key, old);
    }
    if (known && !all) {
      // Which 64-byte lines differ, in a loop that the compiler makes wide; then runs of changed 16-byte blocks in those. A gap
      // of one block is cheaper sent than described.
      uint64_t lines = differingLines(page, old);
      if (lines == 0) return;
      struct { uint16_t offset, length; } patches[64];
      int n = 0;
      uint32_t changed = 0;
      bool whole = false;
      auto* a = (const uint64_t*)page;
      auto* b = (const uint64_t*)old;
      for (; lines && !whole; lines &= lines - 1) {
        int line = __builtin_ctzll(lines);
        for (int i = line * 8; i < line * 8 + 8; i += 2) {
          if (((a[i] ^ b[i]) | (a[i + 1] ^ b[i + 1])) == 0) continue;
          int offset = i * 8;
          if (n && patches[n - 1].offset + patches[n - 1].length + 16 >= offset) {
            changed -= patches[n - 1].length;
            patches[n - 1].length = offset + 16 - patches[n - 1].offset;
          } else {
            if (n == 64) { whole = true; break; }
            patches[n].offset = offset;
            patches[n++].length = 16;
          }
          changed += patches[n - 1].length;
        }
      }
      if (!whole && n == 0) return;
      if (!whole && changed + 4 * n < kPage * 3 / 4) {
        Record r = {address, 1, (uint16_t)n, changed};
        memcpy(out + at, &r, sizeof r);
        at += sizeof r;
        memcpy(out + at, patches, 4 * n);
        at += 4 * n;
        for (int i = 0; i < n; i++) {
          memcpy(out + at, page + patches[i].offset, patches[i].length);
          memcpy(old + patches[i].offset, page + patches[i].offset, patches[i].length);
          at += patches[i].length;
        }
        run = nullptr;
        return;
      }
    }
    if (old) memcpy(old, page, kPage);
    uint16_t kind = isZero(page) ? 2 : 0;
    uint64_t pages = run ? (run->kind == 2 ? run->bytes : run->bytes / kPage) : 0;
    if (!run || run->kind != kind || run->address + pages * kPage != address || pages >= 1024) {
      run = (Record*)(out + at);
      Record r = {address, kind, 0, 0};
      memcpy(run, &r, sizeof r);
      at += sizeof r;
    }
    if (kind == 0) {
      memcpy(out + at, page, kPage);
      at += kPage;
      run->bytes += kPage;
    } else {
      run->bytes++;
    }
  }
};

// encode(staging, addresses, from, to, shadow or null, out, offset, whole, shared BigUint64Array[start, end…], huge or null): appends the page
// stream of staged pages [from, to) to `out`. Returns the new offset, or −ENOSPC.
static Napi::Value encode(const Napi::CallbackInfo& info) {
  size_t from = word(info[2]), to = word(info[3]), room, sharedWords;
  auto* out = data<char>(info[5], &room);
  auto* shared = data<uint64_t>(info[8], &sharedWords);
  Encoder e = {shadow(info[4]), info[7].ToBoolean(), shared, sharedWords, out, room, (size_t)word(info[6]), hugeSources(info[9])};
  if (!e.fits(to - from)) return Napi::Number::New(info.Env(), -ENOSPC);
  e.add(data<char>(info[0]), data<uint64_t>(info[1]), from, to);
  return Napi::Number::New(info.Env(), e.at);
}

// copyEncode(pid, memFd, regions, count, cursor Float64Array[region, address, pages, gone], most, shadow or null, out, whole, shared,
// huge or null):
// reads pages from the cursor on, at most `most` of them, and writes their page stream, a few at a time, so that they are still
// in the cache when they are compared. Moves the cursor on and sets the pages that were there and those that were not. Returns the bytes
// written, or −ENOSPC when `out` cannot hold the worst case.
static Napi::Value copyEncode(const Napi::CallbackInfo& info) {
  constexpr size_t kBatch = 64;
  alignas(64) static char pages[kBatch * kPage];
  static uint64_t addresses[kBatch];
  pid_t pid = word(info[0]);
  int mem = word(info[1]);
  auto* regions = data<uint64_t>(info[2]);
  size_t count = word(info[3]), most = word(info[5]), room, sharedWords;
  auto* cursor = data<double>(info[4]);
  auto* out = data<char>(info[7], &room);
  auto* shared = data<uint64_t>(info[9], &sharedWords);
  HugeSources* huge = hugeSources(info[10]);
  Encoder e = {shadow(info[6]), info[8].ToBoolean(), shared, sharedWords, out, room, 0, huge};
  if (!e.fits(most)) return Napi::Number::New(info.Env(), -ENOSPC);
  Cursor c = {(size_t)cursor[0], (uint64_t)cursor[1]};
  if (c.region < count && c.from == 0) c.from = regions[3 * c.region];
  size_t there = 0, walked = 0;
  while (c.region < count && walked < most) {
    size_t ask = std::min(kBatch, most - walked);
    Cursor before = c;
    size_t n = readPages(pid, mem, regions, count, c, pages, addresses, ask, huge);
    e.add(pages, addresses, 0, n);
    there += n;
    walked += pagesBetween(regions, count, before, c);
  }
  cursor[0] = (double)c.region;
  cursor[1] = (double)c.from;
  cursor[2] = (double)there;
  cursor[3] = (double)(walked - there);
  return Napi::Number::New(info.Env(), e.at);
}

// verify(stream, offset, end): number of pages the stream touches, or −EBADMSG when it is not well-formed.
static Napi::Value verify(const Napi::CallbackInfo& info) {
  auto* in = data<char>(info[0]);
  size_t at = word(info[1]), end = word(info[2]), pages = 0;
  auto bad = [&] { return Napi::Number::New(info.Env(), -EBADMSG); };
  while (at < end) {
    if (end - at < sizeof(Record)) return bad();
    Record r;
    memcpy(&r, in + at, sizeof r);
    at += sizeof r;
    if (r.address % kPage || r.address >= 1ull << 47) return bad();
    switch (r.kind) {
      case 0:
        if (r.bytes % kPage || r.bytes > end - at) return bad();
        at += r.bytes;
        pages += r.bytes / kPage;
        break;
      case 1: {
        if (r.patches > 64 || end - at < 4u * r.patches || end - at - 4u * r.patches < r.bytes) return bad();
        auto* p = (const uint16_t*)(in + at);
        uint32_t sum = 0;
        for (int i = 0; i < r.patches; i++) {
          if (p[2 * i] + p[2 * i + 1] > (int)kPage) return bad();
          sum += p[2 * i + 1];
        }
        if (sum != r.bytes) return bad();
        at += 4 * r.patches + r.bytes;
        pages++;
        break;
      }
      case 2:
      case 3:
        pages += r.bytes;
        break;
      default:
        return bad();
    }
  }
  return Napi::Number::New(info.Env(), pages);
}

// mapShared(fd, bytes): a Buffer over shared memory, for as long as the process lives.
static Napi::Value mapShared(const Napi::CallbackInfo& info) {
  size_t bytes = word(info[1]);
  void* m = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, (int)word(info[0]), 0);
  if (m == MAP_FAILED) return Napi::Number::New(info.Env(), -errno);
  return Napi::Buffer<char>::New(info.Env(), (char*)m, bytes, [bytes](Napi::Env, char* p) { munmap(p, bytes); });
}

// fillWindow(stream, offset, window): copies as many whole records from `offset` on as fit. Returns the offset behind them and
// sets out[0] to the bytes in the window; whole-page records that do not fit are divided.
static Napi::Value fillWindow(const Napi::CallbackInfo& info) {
  size_t end, room;
  auto* in = data<char>(info[0], &end);
  size_t at = word(info[1]), used = 0;
  auto* window = data<char>(info[2], &room);
  auto* out = data<double>(info[3]);
  size_t skip = (size_t)out[1];  // bytes of the record at `at` that an earlier window had
  while (at < end) {
    Record r;
    memcpy(&r, in + at, sizeof r);
    size_t head = sizeof r + (r.kind == 1 ? 4 * r.patches : 0);
    size_t body = r.kind == 2 ? 0 : r.bytes;
    if (used + head + (body - skip) <= room) {
      if (skip) { r.address += skip; r.bytes -= skip; }
      memcpy(window + used, &r, sizeof r);
      memcpy(window + used + sizeof r, in + at + sizeof r, head - sizeof r);
      memcpy(window + used + head, in + at + head + skip, body - skip);
      used += head + body - skip;
      at += head + body;
      skip = 0;
      continue;
    }
    if (r.kind == 0 && used + head + kPage <= room) {
      size_t part = (room - used - head) / kPage * kPage;
      r.address += skip;
      r.bytes = part;
      memcpy(window + used, &r, sizeof r);
      memcpy(window + used + head, in + at + head + skip, part);
      used += head + part;
      skip += part;
    }
    break;
  }
  out[0] = used;
  out[1] = skip;
  return Napi::Number::New(info.Env(), at);
}

// apply(pid, memFd, stream, offset, end): writes the stream into the clone. Kind 3 stops the loop: returns the offset of that
// record for the caller to advise away, then to go on behind it; else returns `end`. −errno on failure.
static Napi::Value apply(const Napi::CallbackInfo& info) {
  pid_t pid = word(info[0]);
  int mem = word(info[1]);
  auto* in = data<char>(info[2]);
  size_t at = word(info[3]), end = word(info[4]);
  static char zeros[64 * kPage];
  std::vector<iovec> local, remote;
  auto flush = [&]() -> long {
    size_t done = 0;
    while (done < remote.size()) {
      size_t n = std::min<size_t>(remote.size() - done, 1000);
      ssize_t want = 0;
      for (size_t i = done; i < done + n; i++) want += remote[i].iov_len;
      ssize_t got = process_vm_writev(pid, &local[done], n, &remote[done], n, 0);
      if (got != want) {
        // Read-only or inaccessible areas: through /proc/PID/mem, which writes as a debugger does.
        for (size_t i = done; i < done + n; i++)
          if (pwrite(mem, local[i].iov_base, local[i].iov_len, (off_t)remote[i].iov_base) != (ssize_t)local[i].iov_len)
            return errno ? -errno : -EFAULT;
      }
      done += n;
    }
    local.clear();
    remote.clear();
    return 0;
  };
  while (at < end) {
    Record r;
    memcpy(&r, in + at, sizeof r);
    if (r.kind == 3) break;
    at += sizeof r;
    if (r.kind == 0) {
      local.push_back({in + at, r.bytes});
      remote.push_back({(void*)r.address, r.bytes});
      at += r.bytes;
    } else if (r.kind == 1) {
      auto* p = (const uint16_t*)(in + at);
      at += 4 * r.patches;
      for (int i = 0; i < r.patches; i++) {
        local.push_back({in + at, p[2 * i + 1]});
        remote.push_back({(void*)(r.address + p[2 * i]), p[2 * i + 1]});
        at += p[2 * i + 1];
      }
    } else {
      for (uint64_t done = 0; done < r.bytes; done += 64) {
        uint64_t n = std::min<uint64_t>(64, r.bytes - done);
        local.push_back({zeros, n * kPage});
        remote.push_back({(void*)(r.address + done * kPage), n * kPage});
      }
    }
    if (remote.size() >= 1000)
      if (long e = flush(); e < 0) return Napi::Number::New(info.Env(), e);
  }
  if (long e = flush(); e < 0) return Napi::Number::New(info.Env(), e);
  return Napi::Number::New(info.Env(), at);
}

void addMemory(Napi::Env env, Napi::Object exports) {
  add(env, exports, "scan", scan);
  add(env, exports, "anyOutside", anyOutside);
  add(env, exports, "copyPages", copyPages);
  add(env, exports, "shadowNew", shadowNew);
  add(env, exports, "shadowDrop", shadowDrop);
  add(env, exports, "holes", holes);
  add(env, exports, "encode", encode);
  add(env, exports, "copyEncode", copyEncode);
  add(env, exports, "verify", verify);
  add(env, exports, "mapShared", mapShared);
  add(env, exports, "fillWindow", fillWindow);
  add(env, exports, "apply", apply);
}

}  // namespace understudy
