// The table of a process's open descriptors in one call, in a form that two looks can be compared by bytes.
#include "addon.h"
#include <dirent.h>
#include <fcntl.h>
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

void addDescriptors(Napi::Env env, Napi::Object exports) {
  add(env, exports, "descriptorTable", descriptorTable);
}

}  // namespace understudy
