// Starts the application's init, and makes system calls in stopped threads of other processes.
#include "addon.h"
#include "alarm.h"
#include <signal.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <fcntl.h>
#include <unistd.h>
#include <vector>
#include <string>

namespace understudy {

// The rest of a vfork's child: nothing of the parent's memory but `error` may change.
[[noreturn]] static void becomeProgram(const char* path, char** argv, char** env, const int32_t* fds, size_t n, volatile int* error) {
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  for (int s = 1; s < 65; s++) signal(s, SIG_DFL);
  // The instance has priority; its application is as any other program.
  setpriority(PRIO_PROCESS, 0, 0);
  int highest = 2;
  for (size_t i = 0; i + 1 < n; i += 2) {
    if (fds[i + 1] > highest) highest = fds[i + 1];
    if (fds[i] == fds[i + 1]) fcntl(fds[i], F_SETFD, 0);
    else if (dup2(fds[i], fds[i + 1]) < 0) { *error = errno; _exit(127); }
  }
  // Whatever this process was given by others stays out of the application.
  syscall(436 /* close_range */, highest + 1, ~0u, 0);
  execve(path, argv, env);
  *error = errno;
  _exit(127);
}

static pid_t beginProgram(const char* path, char** argv, char** env, const int32_t* fds, size_t n, volatile int* error) {
  pid_t pid = vfork();
  if (pid == 0) becomeProgram(path, argv, env, fds, n, error);
  return pid;
}

// spawn(path, argv string[], fds [from, to…] Int32Array): vfork and exec with an empty environment; not a child that libuv
// knows. Descriptors not named are close-on-exec as Node.js opens them. Returns the pid or −errno.
static Napi::Value spawn(const Napi::CallbackInfo& info) {
  std::string path = info[0].ToString();
  auto array = info[1].As<Napi::Array>();
  std::vector<std::string> strings;
  for (uint32_t i = 0; i < array.Length(); i++) strings.push_back(array.Get(i).ToString());
  std::vector<char*> argv;
  for (auto& s : strings) argv.push_back(s.data());
  argv.push_back(nullptr);
  const auto* fds = data<int32_t>(info[2]);
  const size_t n = info[2].As<Napi::Int32Array>().ElementLength();
  char* env[] = {nullptr};
  volatile int error = 0;
  pid_t pid = beginProgram(path.c_str(), argv.data(), env, fds, n, &error);
  if (pid < 0) return Napi::Number::New(info.Env(), -errno);
  if (error) {
    waitpid(pid, nullptr, 0);
    return Napi::Number::New(info.Env(), -error);
  }
  return Napi::Number::New(info.Env(), pid);
}

static int waitStop(pid_t tid, int* status, uint64_t timeoutMs) {
  const uint64_t patience = timeoutMs * 1000000, deadline = nowNs() + patience;
  Alarm alarm(patience);
  if (alarm.error) return alarm.error;
  for (;;) {
    const bool late = nowNs() >= deadline;
    pid_t r = waitpid(tid, status, __WALL | (late ? WNOHANG : 0));
    if (r == tid) return WIFSTOPPED(*status) ? 0 : -ESRCH;
    if (r < 0 && errno != EINTR) return -errno;
    if (late) return -ETIMEDOUT;
  }
}

// remoteCall(tid, gadget, nr, arguments Float64Array[6], out Float64Array[2]): makes one system call in a stopped thread, by
// stops at entry and exit (a tracer's death at such a stop leaves the thread alive). Registers are left as the call left
// them: save them before, set them after. out[0] is the call's result, out[1] the pid of a child made by it (or 0).
static Napi::Value remoteCall(const Napi::CallbackInfo& info) {
  pid_t tid = word(info[0]);
  auto* a = data<double>(info[3]);
  auto* out = data<double>(info[4]);
  out[1] = 0;
  auto fail = [&](long e) { return Napi::Number::New(info.Env(), (double)e); };
  user_regs_struct regs;
  if (ptrace(PTRACE_GETREGS, tid, 0, &regs) < 0) return fail(-errno);
  regs.rip = word(info[1]);
  regs.rax = word(info[2]);
  regs.orig_rax = -1;
  auto arg = [&](int i) { return (uint64_t)(int64_t)a[i]; };
  regs.rdi = arg(0); regs.rsi = arg(1); regs.rdx = arg(2); regs.r10 = arg(3); regs.r8 = arg(4); regs.r9 = arg(5);
  if (ptrace(PTRACE_SETREGS, tid, 0, &regs) < 0) return fail(-errno);
  int stops = 0, status;
  for (int i = 0; i < 32; i++) {
    if (ptrace(PTRACE_SYSCALL, tid, 0, 0) < 0) return fail(-errno);
    if (int e = waitStop(tid, &status, 10000); e < 0) return fail(e);
    if (WSTOPSIG(status) == (SIGTRAP | 0x80)) {
      if (++stops == 2) break;
    } else if (status >> 16) {
      unsigned long message = 0;
      int event = status >> 16;
      if (event == PTRACE_EVENT_FORK || event == PTRACE_EVENT_VFORK || event == PTRACE_EVENT_CLONE) {
        ptrace(PTRACE_GETEVENTMSG, tid, 0, &message);
        out[1] = (double)message;
      }
    } else {
      return fail(-EINTR);  // a signal: the caller blocks them all beforehand
    }
  }
  if (stops != 2) return fail(-EPROTO);
  if (ptrace(PTRACE_GETREGS, tid, 0, &regs) < 0) return fail(-errno);
  out[0] = (double)(long)regs.rax;
  return fail(0);
}

// remoteBatch(tid, code, table, count): runs `count` system calls laid out at `table` (64 bytes each: nr, six arguments,
// result) in a stopped thread by the loop at `code`, which ends in a breakpoint. Only for clones: a tracer's death in the
// middle ends the thread.
static Napi::Value remoteBatch(const Napi::CallbackInfo& info) {
  pid_t tid = word(info[0]);
  auto fail = [&](long e) { return Napi::Number::New(info.Env(), (double)e); };
  user_regs_struct regs;
  if (ptrace(PTRACE_GETREGS, tid, 0, &regs) < 0) return fail(-errno);
  regs.rip = word(info[1]);
  regs.rbx = word(info[2]);
  regs.r12 = word(info[3]);
  regs.orig_rax = -1;
  if (ptrace(PTRACE_SETREGS, tid, 0, &regs) < 0) return fail(-errno);
  int status;
  for (int i = 0; i < 64; i++) {
    if (ptrace(PTRACE_CONT, tid, 0, 0) < 0) return fail(-errno);
    if (int e = waitStop(tid, &status, 10000); e < 0) return fail(e);
    if (WSTOPSIG(status) == SIGTRAP && status >> 16 == 0) return fail(0);
    if (status >> 16 == 0) return fail(-EINTR - 1000 * WSTOPSIG(status));
  }
  return fail(-EPROTO);
}

// remoteRun(tid, code, rdi, rsi, stack): runs code that lies in a clone's memory and ends in a breakpoint. 0, or the number of
// the signal that it met instead (it stands before that signal's delivery), or −errno.
static Napi::Value remoteRun(const Napi::CallbackInfo& info) {
  pid_t tid = word(info[0]);
  auto answer = [&](long e) { return Napi::Number::New(info.Env(), (double)e); };
  user_regs_struct regs;
  if (ptrace(PTRACE_GETREGS, tid, 0, &regs) < 0) return answer(-errno);
  regs.rip = word(info[1]);
  regs.rdi = word(info[2]);
  regs.rsi = word(info[3]);
  regs.rsp = word(info[4]);
  regs.eflags &= ~0x400ul;  // direction flag
  regs.orig_rax = -1;
  if (ptrace(PTRACE_SETREGS, tid, 0, &regs) < 0) return answer(-errno);
  int status;
  for (int i = 0; i < 64; i++) {
    if (ptrace(PTRACE_CONT, tid, 0, 0) < 0) return answer(-errno);
    if (int e = waitStop(tid, &status, 10000); e < 0) return answer(e);
    if (status >> 16) continue;
    return answer(WSTOPSIG(status) == SIGTRAP ? 0 : WSTOPSIG(status));
  }
  return answer(-EPROTO);
}

// trapAgain(tid): from any stop to the stop that PTRACE_INTERRUPT makes, without running user code in between. Registers set
// there take part in the kernel's restart of interrupted calls; set at a system-call stop they would not.
static Napi::Value trapAgain(const Napi::CallbackInfo& info) {
  pid_t tid = word(info[0]);
  int status;
  if (ptrace(PTRACE_INTERRUPT, tid, 0, 0) < 0 || ptrace(PTRACE_CONT, tid, 0, 0) < 0) return Napi::Number::New(info.Env(), -errno);
  int e = waitStop(tid, &status, 10000);
  if (e < 0) return Napi::Number::New(info.Env(), e);
  return Napi::Number::New(info.Env(), status);
}

void addSpawn(Napi::Env env, Napi::Object exports) {
  add(env, exports, "spawn", spawn);
  add(env, exports, "remoteCall", remoteCall);
  add(env, exports, "remoteBatch", remoteBatch);
  add(env, exports, "remoteRun", remoteRun);
  add(env, exports, "trapAgain", trapAgain);
}

}  // namespace understudy
