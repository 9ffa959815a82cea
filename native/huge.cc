// What is asked of memory of huge pages besides its pages' way to the clones, see huge.h.
#include "addon.h"
#include "huge.h"
#include <sys/mman.h>

namespace understudy {

using Content = std::shared_ptr<HugeContent>;

static Content& content(const Napi::Value& v) { return *v.As<Napi::External<Content>>().Data(); }

static Napi::Value contentNew(const Napi::CallbackInfo& info) {
  auto* made = new Content(std::make_shared<HugeContent>());
  (*made)->shadow.limit = word(info[0]);
  return Napi::External<Content>::New(info.Env(), made, [](Napi::Env, Content* c) { delete c; });
}

// hugeForget(content, from, to): a range is zeros on every clone.
static Napi::Value forget(const Napi::CallbackInfo& info) {
  content(info[0])->forget(word(info[1]), word(info[2]));
  return Napi::Number::New(info.Env(), 0);
}

// hugeNote(content, from, bytes, length): the clones have this in a range, whole pages; it came another way.
static Napi::Value note(const Napi::CallbackInfo& info) {
  Content& c = content(info[0]);
  uint64_t from = word(info[1]), length = word(info[3]);
  auto* bytes = data<char>(info[2]);
  c->forgetShadow(from, from + length);
  for (uint64_t at = 0; at < length; at += kPage) c->note(from + at, bytes + at);
  return Napi::Number::New(info.Env(), 0);
}

// hugeSources(ranges BigUint64Array[start, end, shift…], fds Int32Array, contents [content…]): where the ranges are read, at address +
// shift, and what the clones have of them.
static Napi::Value sources(const Napi::CallbackInfo& info) {
  size_t words;
  auto* ranges = data<uint64_t>(info[0], &words);
  auto* fds = data<int32_t>(info[1]);
  auto contents = info[2].As<Napi::Array>();
  auto* made = new HugeSources;
  for (size_t i = 0; i < words / 3; i++)
    made->list.push_back({ranges[3 * i], ranges[3 * i + 1], ranges[3 * i + 2], fds[i], content(contents.Get(i))});
  return Napi::External<HugeSources>::New(info.Env(), made, [](Napi::Env, HugeSources* s) { delete s; });
}

// hugeSeen(sources, staging, addresses, from, to): some clone has these pages, besides what it is sent.
static Napi::Value seen(const Napi::CallbackInfo& info) {
  auto* s = hugeSources(info[0]);
  auto* staging = data<char>(info[1]);
  auto* addresses = data<uint64_t>(info[2]);
  for (size_t p = word(info[3]); p < word(info[4]); p++) {
    uint64_t end = addresses[p] + kPage;
    if (auto* source = s->at(addresses[p], &end)) source->content->note(addresses[p] + source->shift, staging + p * kPage);
  }
  return Napi::Number::New(info.Env(), 0);
}

static Napi::Value openSources(const Napi::CallbackInfo& info) {
  auto* s = hugeSources(info[0]);
  auto* fds = data<int32_t>(info[1]);
  for (size_t i = 0; i < s->list.size(); i++) s->list[i].fd = fds[i];
  return Napi::Number::New(info.Env(), 0);
}

// Whether the page of a block that was not zeros still is not: a page that was given back and touched again has nothing but
// zeros, and nothing else tells of it.
static bool isAsSent(int fd, uint64_t block, const HugeContent::Block& pages) {
  int p = 0;
  while (pages.words[p] == 0) p++;
  uint64_t word = 0;
  off_t at = block * HugeContent::kBlock + p * kPage + (pages.words[p] - 1) * 8;
  return pread(fd, &word, sizeof word, at) != sizeof word || word != 0;
}

static bool covers(const uint64_t* regions, size_t count, uint64_t address) {
  size_t low = 0, high = count;
  while (low < high) {
    size_t middle = (low + high) / 2;
    if (regions[3 * middle + 1] <= address) low = middle + 1;
    else high = middle;
  }
  return low < count && regions[3 * low] <= address;
}

// hugeGone(content, memFd, present, written, out): of private memory, blocks that are zeros again though no scan reported them
// written. Both lists are regions. Returns how many start addresses are in `out`.
static Napi::Value gone(const Napi::CallbackInfo& info) {
  Content& c = content(info[0]);
  int mem = word(info[1]);
  size_t present, written, room, n = 0;
  auto* there = data<uint64_t>(info[2], &present);
  auto* wrote = data<uint64_t>(info[3], &written);
  auto* out = data<uint64_t>(info[4], &room);
  for (auto& [block, pages] : c->blocks) {
    uint64_t at = block * HugeContent::kBlock;
    if (n == room) break;
    if (covers(wrote, written / 3, at)) continue;
    if (!covers(there, present / 3, at) || !isAsSent(mem, block, pages)) out[n++] = at;
  }
  return Napi::Number::New(info.Env(), n);
}

// hugeZeroed(content, fd, out): of a shared object, blocks that are zeros again. Returns how many offsets are in `out`.
static Napi::Value zeroed(const Napi::CallbackInfo& info) {
  Content& c = content(info[0]);
  int fd = word(info[1]);
  size_t room, n = 0;
  auto* out = data<uint64_t>(info[2], &room);
  alignas(64) static char pages[64 * kPage];
  for (auto& [block, sent] : c->blocks) {
    if (n == room) break;
    if (isAsSent(fd, block, sent)) continue;
    uint64_t at = block * HugeContent::kBlock, end = at + HugeContent::kBlock;
    for (bool zeros = true; zeros && at < end;) {
      ssize_t got = pread(fd, pages, sizeof pages, at);
      for (ssize_t p = 0; zeros && p < got; p += kPage) zeros = HugeContent::firstWord(pages + p) == 0;
      if (!zeros) break;
      at = got == sizeof pages ? at + got : end;
    }
    if (at == end) out[n++] = block * HugeContent::kBlock;
  }
  return Napi::Number::New(info.Env(), n);
}

// writeMapped(fd, offset, bytes, length, unit): writes to a file that write(2) cannot write, through a mapping of whole units.
static Napi::Value writeMapped(const Napi::CallbackInfo& info) {
  int fd = word(info[0]);
  uint64_t offset = word(info[1]), length = word(info[3]), unit = word(info[4]);
  auto* bytes = data<char>(info[2]);
  uint64_t from = offset / unit * unit, to = (offset + length + unit - 1) / unit * unit;
  // Not MAP_NORESERVE: what is mapped so can be touched.
  void* at = mmap(nullptr, to - from, PROT_READ | PROT_WRITE, MAP_SHARED, fd, from);
  if (at == MAP_FAILED) return Napi::Number::New(info.Env(), -errno);
  memcpy((char*)at + (offset - from), bytes, length);
  munmap(at, to - from);
  return Napi::Number::New(info.Env(), 0);
}

void addHuge(Napi::Env env, Napi::Object exports) {
  add(env, exports, "hugeContent", contentNew);
  add(env, exports, "hugeForget", forget);
  add(env, exports, "hugeNote", note);
  add(env, exports, "hugeSources", sources);
  add(env, exports, "hugeOpen", openSources);
  add(env, exports, "hugeSeen", seen);
  add(env, exports, "hugeGone", gone);
  add(env, exports, "hugeZeroed", zeroed);
  add(env, exports, "writeMapped", writeMapped);
}

}  // namespace understudy
