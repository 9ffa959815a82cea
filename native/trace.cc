// Loops over threads: stop them together, take their registers. One call each, because the application waits meanwhile.
#include "addon.h"
#include "alarm.h"
#include <cpuid.h>
#include <elf.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unordered_map>

#ifndef NT_X86_XSTATE
#define NT_X86_XSTATE 0x202
#endif

namespace understudy {

// The status of an exit with code 0 is 0, which stands for "none yet" here: a bit that nobody looks at makes the difference.
constexpr int kExitedWell = 1 << 30;

// stopAll(tids Int32Array, statuses Int32Array, timeoutUs, interrupt): interrupts every thread, then takes one wait status
// of each: statuses[i] is the status, −errno (ECHILD: gone), or 0 when none came in time. Returns how many are missing, or −errno (nothing was
// interrupted).
static Napi::Value stopAll(const Napi::CallbackInfo& info) {
  size_t n;
  auto* tids = data<int32_t>(info[0], &n);
  auto* statuses = data<int32_t>(info[1]);
  uint64_t patience = word(info[2]) * 1000, deadline = nowNs() + patience;
  Alarm alarm(patience);
  if (alarm.error) return Napi::Number::New(info.Env(), alarm.error);
  if (info[3].ToBoolean()) {
    for (size_t i = 0; i < n; i++) {
      statuses[i] = 0;
      if (ptrace(PTRACE_INTERRUPT, tids[i], 0, 0) < 0 && errno != ESRCH) statuses[i] = -errno;
    }
  }
  size_t missing = 0;
  for (size_t i = 0; i < n; i++) {
    while (statuses[i] == 0) {
      int status;
      bool late = nowNs() >= deadline;
      pid_t r = waitpid(tids[i], &status, __WALL | (late ? WNOHANG : 0));
      if (r == tids[i]) statuses[i] = status ? status : kExitedWell;
      else if (r < 0 && errno != EINTR) statuses[i] = -errno;
      else if (late) { missing++; break; }
    }
  }
  return Napi::Number::New(info.Env(), missing);
}

// Whether a signal waits that the thread does not block: then its call was not interrupted by the tracer alone.
static bool signalWaits(pid_t tid) {
  struct { uint64_t offset; uint32_t flags; int32_t number; } which = {0, 0, 64};
  static siginfo_t found[64];
  uint64_t blocked = 0;
  if (ptrace((__ptrace_request)0x420a /* PTRACE_GETSIGMASK */, tid, 8, &blocked) < 0) return true;
  for (which.flags = 0; which.flags < 2; which.flags++) {
    long n = ptrace((__ptrace_request)0x4209 /* PTRACE_PEEKSIGINFO */, tid, &which, found);
    for (long i = 0; i < n; i++)
      if (!(blocked >> (found[i].si_signo - 1) & 1)) return true;
  }
  return false;
}

constexpr long kRestartBlock = -516;
constexpr uint64_t kRestartSyscall = 219;
static std::unordered_map<pid_t, uint64_t> restarted;

// Number of the call that a thread goes on with by restart_syscall, or that number itself when it cannot be found out: from the
// instruction before (mov $nr, %eax), else as seen when it was interrupted first.
static uint64_t originalCall(pid_t tid, const user_regs_struct& regs) {
  errno = 0;
  uint64_t code = ptrace(PTRACE_PEEKTEXT, tid, regs.rip - 7, 0);
  auto* bytes = (const uint8_t*)&code;
  if (!errno && bytes[0] == 0xb8 && bytes[5] == 0x0f && bytes[6] == 0x05) {
    uint32_t number;
    memcpy(&number, bytes + 1, 4);
    return number;
  }
  auto seen = restarted.find(tid);
  return seen == restarted.end() ? kRestartSyscall : seen->second;
}

// Calls with a time limit that the kernel ends with EINTR after any stop (signal(7)), and where the limit is told.
enum class Limit { none, milliseconds, timespec, receiving, sending };
static Limit limitOf(const user_regs_struct& regs, uint64_t* told) {
  switch (regs.orig_rax) {
    case 232:  // epoll_wait
    case 281:  // epoll_pwait
      *told = regs.r10;
      return Limit::milliseconds;
    case 220:  // semtimedop
    case 441:  // epoll_pwait2
      *told = regs.r10;
      return Limit::timespec;
    case 128:  // rt_sigtimedwait
      *told = regs.rdx;
      return Limit::timespec;
    case 208:  // io_getevents
    case 333:  // io_pgetevents
      *told = regs.r8;
      return Limit::timespec;
    case 0:    // read
    case 19:   // readv
    case 43:   // accept
    case 45:   // recvfrom
    case 47:   // recvmsg
    case 288:  // accept4
      *told = regs.rdi;
      return Limit::receiving;
    case 1:   // write
    case 20:  // writev
    case 42:  // connect
    case 44:  // sendto
    case 46:  // sendmsg
      *told = regs.rdi;
      return Limit::sending;
  }
  return Limit::none;
}

static bool callAgain(pid_t tid, user_regs_struct& regs) {
  regs.rax = regs.orig_rax;
  regs.orig_rax = -1;
  regs.rip -= 2;
  return ptrace(PTRACE_SETREGS, tid, 0, &regs) == 0;
}

// restartWaits(tids Int32Array, timed BigInt64Array): the kernel ends some calls with EINTR after any stop (signal(7)). Those without a time
// limit start again instead, unless a signal is there as well. All must stand in an interrupt stop. Of those with one tells
// {index, call, what it says: 1 nanoseconds, 2 a descriptor that is read from, 3 or written to, that}; also of those that the kernel goes on
// with by itself (4). As many as there is room for. Returns how many.
static Napi::Value restartWaits(const Napi::CallbackInfo& info) {
  size_t n, room, found = 0;
  auto* tids = data<int32_t>(info[0], &n);
  auto* timed = data<int64_t>(info[1], &room);
  for (size_t i = 0; i < n; i++) {
    user_regs_struct regs;
    if (ptrace(PTRACE_GETREGS, tids[i], 0, &regs) < 0) continue;
    if ((long)regs.rax == kRestartBlock) {
      if (regs.orig_rax != kRestartSyscall) {
        if (restarted.size() > 100000) restarted.clear();
        restarted[tids[i]] = regs.orig_rax;
      }
      if ((found + 1) * 4 > room) continue;
      uint64_t call = regs.orig_rax == kRestartSyscall ? originalCall(tids[i], regs) : regs.orig_rax;
      int64_t row[4] = {(int64_t)i, (int64_t)call, 4, 0};
      memcpy(timed + 4 * found++, row, sizeof row);
      continue;
    }
    if ((long)regs.rax != -EINTR) continue;
    uint64_t told = 0;
    Limit limit = limitOf(regs, &told);
    bool endless = regs.orig_rax == 65 /* semop */ || (limit == Limit::milliseconds && (int)told < 0) ||
                   (limit == Limit::timespec && told == 0);
    if ((limit == Limit::none && !endless) || signalWaits(tids[i])) continue;
    if (endless) {
      callAgain(tids[i], regs);
      continue;
    }
    int64_t says[2] = {1, (int64_t)told};
    if (limit == Limit::milliseconds) says[1] = (int64_t)(int)told * 1000000;
    else if (limit == Limit::timespec) {
      timespec time;
      iovec here = {&time, sizeof time}, there = {(void*)told, sizeof time};
      if (process_vm_readv(tids[i], &here, 1, &there, 1, 0) != sizeof time) continue;
      says[1] = time.tv_sec > 9000000000 ? INT64_MAX : time.tv_sec * 1000000000 + time.tv_nsec;
    } else says[0] = limit == Limit::receiving ? 2 : 3;
    if ((found + 1) * 4 > room) continue;
    int64_t row[4] = {(int64_t)i, (int64_t)regs.orig_rax, says[0], says[1]};
    memcpy(timed + 4 * found++, row, sizeof row);
  }
  return Napi::Number::New(info.Env(), found);
}

// restartCall(tid): the call that an interrupt stop has ended begins again when the thread goes on. 0 or −errno.
static Napi::Value restartCall(const Napi::CallbackInfo& info) {
  pid_t tid = word(info[0]);
  user_regs_struct regs;
  bool done = ptrace(PTRACE_GETREGS, tid, 0, &regs) == 0 && callAgain(tid, regs);
  return Napi::Number::New(info.Env(), done ? 0 : -errno);
}

// endCall(tid, result): it has ended with that result. 0 or −errno.
static Napi::Value endCall(const Napi::CallbackInfo& info) {
  pid_t tid = word(info[0]);
  user_regs_struct regs;
  if (ptrace(PTRACE_GETREGS, tid, 0, &regs) < 0) return Napi::Number::New(info.Env(), -errno);
  regs.rax = info[1].ToNumber().Int64Value();
  regs.orig_rax = -1;
  return Napi::Number::New(info.Env(), ptrace(PTRACE_SETREGS, tid, 0, &regs) < 0 ? -errno : 0);
}

// pendingSignals(tids Int32Array, shared, out): siginfos (128 bytes each) waiting for each thread, or for its process, after
// {int32 index, int32 count}. Returns the bytes used, or −errno.
static Napi::Value pendingSignals(const Napi::CallbackInfo& info) {
  size_t n, room, at = 0;
  auto* tids = data<int32_t>(info[0], &n);
  struct { uint64_t offset; uint32_t flags; int32_t number; } which = {0, info[1].ToBoolean() ? 1u : 0u, 0};
  auto* out = data<char>(info[2], &room);
  for (size_t i = 0; i < n; i++) {
    which.number = (int32_t)((room - at) / 128) - 1;
    if (which.number < 1) return Napi::Number::New(info.Env(), -ENOSPC);
    long found = ptrace((__ptrace_request)0x4209 /* PTRACE_PEEKSIGINFO */, tids[i], &which, out + at + 8);
    if (found < 0) return Napi::Number::New(info.Env(), -errno);
    if (found == 0) continue;
    int32_t head[2] = {(int32_t)i, (int32_t)found};
    memcpy(out + at, head, 8);
    at += 8 + 128 * found;
  }
  return Napi::Number::New(info.Env(), at);
}

// continueAll(tids Int32Array): −errno of the first that failed for another reason than having gone.
static Napi::Value continueAll(const Napi::CallbackInfo& info) {
  size_t n;
  auto* tids = data<int32_t>(info[0], &n);
  int error = 0;
  for (size_t i = 0; i < n; i++)
    if (ptrace(PTRACE_CONT, tids[i], 0, 0) < 0 && errno != ESRCH && !error) error = -errno;
  return Napi::Number::New(info.Env(), error);
}

// One thread's record: general registers (216), signal mask (8), length of the xsave area (8), xsave area.
constexpr size_t kGeneral = sizeof(user_regs_struct);
constexpr size_t kHeader = kGeneral + 16;

// The xsave area of this processor in the standard format (Intel SDM, CPUID leaf 0Dh). The kernel gives a part of it, but takes back only
// the whole. AMX tiles are 8 KiB at its end: they are left out as long as a thread has none.
struct Xsave {
  static constexpr unsigned kTiles = 18;
  static constexpr size_t kInUseAt = 512;  // XSTATE_BV: the components that are not in their initial state
  static constexpr size_t kMost = 16384;
  size_t bytes = 576, tilesAt = 0;
  Xsave() {
    unsigned a, b, c, d;
    if (!__get_cpuid_count(0x0d, 0, &a, &b, &c, &d)) return;
    bytes = b;
    if (a >> kTiles & 1 && __get_cpuid_count(0x0d, kTiles, &a, &b, &c, &d)) tilesAt = b;
  }
  static bool hasTiles(const char* area) {
    uint64_t inUse;
    memcpy(&inUse, area + kInUseAt, 8);
    return inUse >> kTiles & 1;
  }
};
static const Xsave kXsave;

static int takeXsave(pid_t tid, char* area, size_t room, uint64_t* length) {
  iovec v = {area, kXsave.tilesAt ? kXsave.tilesAt : kXsave.bytes};
  if (room < kXsave.bytes || kXsave.bytes > Xsave::kMost) return -ENOSPC;
  if (ptrace(PTRACE_GETREGSET, tid, NT_X86_XSTATE, &v) < 0) return -errno;
  if (kXsave.tilesAt && Xsave::hasTiles(area)) {
    v = {area, kXsave.bytes};
    if (ptrace(PTRACE_GETREGSET, tid, NT_X86_XSTATE, &v) < 0) return -errno;
  }
  *length = v.iov_len;
  return 0;
}

static int giveXsave(pid_t tid, const char* area, uint64_t length) {
  static char whole[Xsave::kMost];
  if (length > kXsave.bytes || kXsave.bytes > Xsave::kMost) return -ENOSPC;
  memcpy(whole, area, length);
  memset(whole + length, 0, kXsave.bytes - length);
  iovec v = {whole, kXsave.bytes};
  return ptrace(PTRACE_SETREGSET, tid, NT_X86_XSTATE, &v) < 0 ? -errno : 0;
}

// recordBytes(): the most that a thread's record takes on this processor.
static Napi::Value recordBytes(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), kHeader + kXsave.bytes);
}

// dumpThreads(tids, out, stride): a record of at most `stride` bytes per thread. Returns 0, or −errno of the first failure.
static Napi::Value dumpThreads(const Napi::CallbackInfo& info) {
  size_t n;
  auto* tids = data<int32_t>(info[0], &n);
  auto* out = data<char>(info[1]);
  size_t stride = word(info[2]);
  for (size_t i = 0; i < n; i++) {
    char* record = out + i * stride;
    if (ptrace(PTRACE_GETREGS, tids[i], 0, record) < 0) return Napi::Number::New(info.Env(), -errno);
    auto& regs = *(user_regs_struct*)record;
    // Where else the thread may go on there is no restart block: it must know the call itself. To this kernel it is all one.
    if ((long)regs.rax == kRestartBlock && regs.orig_rax == kRestartSyscall) regs.orig_rax = originalCall(tids[i], regs);
    if (ptrace((__ptrace_request)0x420a /* PTRACE_GETSIGMASK */, tids[i], 8, record + kGeneral) < 0)
      return Napi::Number::New(info.Env(), -errno);
    uint64_t length = 0;
    int error = takeXsave(tids[i], record + kHeader, stride - kHeader, &length);
    if (error) return Napi::Number::New(info.Env(), error);
    memcpy(record + kGeneral + 8, &length, 8);
  }
  return Napi::Number::New(info.Env(), 0);
}

// setThread(tid, record): the reverse for one thread.
static Napi::Value setThread(const Napi::CallbackInfo& info) {
  pid_t tid = word(info[0]);
  auto* record = data<char>(info[1]);
  uint64_t length;
  memcpy(&length, record + kGeneral + 8, 8);
  int error = giveXsave(tid, record + kHeader, length);
  if (!error && (ptrace((__ptrace_request)0x420b /* PTRACE_SETSIGMASK */, tid, 8, record + kGeneral) < 0 ||
                 ptrace(PTRACE_SETREGS, tid, 0, record) < 0))
    error = -errno;
  return Napi::Number::New(info.Env(), error);
}

void addTrace(Napi::Env env, Napi::Object exports) {
  add(env, exports, "stopAll", stopAll);
  add(env, exports, "continueAll", continueAll);
  add(env, exports, "restartWaits", restartWaits);
  add(env, exports, "restartCall", restartCall);
  add(env, exports, "endCall", endCall);
  add(env, exports, "pendingSignals", pendingSignals);
  add(env, exports, "recordBytes", recordBytes);
  add(env, exports, "dumpThreads", dumpThreads);
  add(env, exports, "setThread", setThread);
}

}  // namespace understudy
