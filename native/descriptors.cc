// The table of a process's open descriptors in one call, in a form that two looks can be compared by bytes.
#include "addon.h"
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace understudy {

struct Entry64 { uint64_t ino; int64_t off; uint16_t length; uint8_t type; char name[]; };

// descriptorTable(directoryFd of /proc/PID/fd, out): "FD\0LINK\0" of each, in the kernel's (ascending) order. Returns the bytes
// used, −errno, or −ENOSPC.
static Napi::Value descriptorTable(const Napi::CallbackInfo& info) {
  int dir = word(info[0]);
  size_t room;
  auto* out = data<char>(info[1], &room);
  size_t at = 0;
  char entries[16384];
  if (lseek(dir, 0, SEEK_SET) < 0) return Napi::Number::New(info.Env(), -errno);
  for (;;) {
    long n = syscall(SYS_getdents64, dir, entries, sizeof entries);
    if (n < 0) return Napi::Number::New(info.Env(), -errno);
    if (n == 0) break;
    for (long p = 0; p < n;) {
      auto* e = (Entry64*)(entries + p);
      p += e->length;
      if (e->name[0] == '.') continue;
      size_t l = strlen(e->name) + 1;
      if (at + l + 4097 > room) return Napi::Number::New(info.Env(), -ENOSPC);
      memcpy(out + at, e->name, l);
      ssize_t r = readlinkat(dir, e->name, out + at + l, 4096);
      if (r < 0) {
        if (errno == ENOENT) continue;
        return Napi::Number::New(info.Env(), -errno);
      }
      at += l + r;
      out[at++] = 0;
    }
  }
  return Napi::Number::New(info.Env(), at);
}

constexpr int kIteratorCreate = 33;  // bpf(BPF_ITER_CREATE)

// walk(linkFd, heads, stamps, headBytes): runs a BPF iterator once. Its records are a head of `headBytes`, whose last word tells
// how many bytes follow; heads and what follows go to two places. Returns the bytes of heads, −errno, or −ENOSPC.
static Napi::Value walk(const Napi::CallbackInfo& info) {
  struct { uint32_t link, flags; } create = {(uint32_t)word(info[0]), 0};
  size_t headRoom, stampRoom, headBytes = word(info[3]);
  auto* heads = data<char>(info[1], &headRoom);
  auto* stamps = data<char>(info[2], &stampRoom);
  int fd = syscall(SYS_bpf, kIteratorCreate, &create, sizeof create);
  if (fd < 0) return Napi::Number::New(info.Env(), -errno);
  static char piece[65536];
  size_t have = 0, head = 0, stamp = 0;
  int error = 0;
  while (!error) {
    ssize_t n = read(fd, piece + have, sizeof piece - have);
    if (n < 0) error = -errno;
    if (n <= 0) break;
    have += n;
    size_t at = 0;
    while (have - at >= headBytes) {
      uint32_t more;
      memcpy(&more, piece + at + headBytes - 4, 4);
      if (have - at < headBytes + more) break;
      if (head + headBytes > headRoom || stamp + more > stampRoom) { error = -ENOSPC; break; }
      memcpy(heads + head, piece + at, headBytes);
      memcpy(stamps + stamp, piece + at + headBytes, more);
      head += headBytes;
      stamp += more;
      at += headBytes + more;
    }
    memmove(piece, piece + at, have -= at);
  }
  close(fd);
  return Napi::Number::New(info.Env(), error ? error : (double)head);
}

// linksOf(directoryFd of /proc/PID/fd, fds Int32Array, out): as descriptorTable, of these descriptors.
static Napi::Value linksOf(const Napi::CallbackInfo& info) {
  int dir = word(info[0]);
  size_t count, room, at = 0;
  auto* fds = data<int32_t>(info[1], &count);
  auto* out = data<char>(info[2], &room);
  for (size_t i = 0; i < count; i++) {
    if (at + 16 + 4097 > room) return Napi::Number::New(info.Env(), -ENOSPC);
    int l = sprintf(out + at, "%d", fds[i]) + 1;
    ssize_t r = readlinkat(dir, out + at, out + at + l, 4096);
    if (r < 0) return Napi::Number::New(info.Env(), -errno);
    at += l + r;
    out[at++] = 0;
  }
  return Napi::Number::New(info.Env(), at);
}

void addDescriptors(Napi::Env env, Napi::Object exports) {
  add(env, exports, "descriptorTable", descriptorTable);
  add(env, exports, "linksOf", linksOf);
  add(env, exports, "walk", walk);
}

}  // namespace understudy
