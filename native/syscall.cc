// The raw system call, and an event-loop watcher for any descriptor: with these two every call can be typed in TypeScript.
#include "addon.h"
#include <sys/syscall.h>
#include <unistd.h>

namespace understudy {

// syscall(nr, a0 … a5): number, bigint, null or Buffer each. Returns the result, or −errno, as a number.
static Napi::Value rawSyscall(const Napi::CallbackInfo& info) {
  uint64_t a[7] = {};
  for (size_t i = 0; i < info.Length() && i < 7; i++) a[i] = word(info[i]);
  long r = ::syscall((long)a[0], a[1], a[2], a[3], a[4], a[5], a[6]);
  return Napi::Number::New(info.Env(), r == -1 ? -errno : (double)r);
}

// addressOf(buffer): where its first byte is. The caller keeps the buffer alive while the kernel may use the address.
static Napi::Value addressOf(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), (double)word(info[0]));
}

struct Watcher {
  uv_poll_t poll;
  Napi::FunctionReference callback;
  Napi::AsyncContext* context;
};

static void onReady(uv_poll_t* handle, int status, int events) {
  auto* w = (Watcher*)handle->data;
  Napi::Env env = w->callback.Env();
  Napi::HandleScope scope(env);
  w->callback.MakeCallback(env.Global(), {Napi::Number::New(env, status), Napi::Number::New(env, events)}, *w->context);
}

// watch(fd, events, callback(status, events)): events are UV_READABLE 1, UV_WRITABLE 2. Returns a handle for unwatch.
static Napi::Value watch(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  uv_loop_t* loop;
  napi_get_uv_event_loop(env, &loop);
  auto* w = new Watcher;
  int r = uv_poll_init(loop, &w->poll, info[0].As<Napi::Number>().Int32Value());
  if (r < 0) { delete w; return Napi::Number::New(env, r); }
  w->poll.data = w;
  w->callback = Napi::Persistent(info[2].As<Napi::Function>());
  w->context = new Napi::AsyncContext(env, "understudy:watch");
  r = uv_poll_start(&w->poll, info[1].As<Napi::Number>().Int32Value(), onReady);
  if (r < 0) return Napi::Number::New(env, r);
  return Napi::External<Watcher>::New(env, w);
}

// unwatch(handle): before the descriptor is closed.
static Napi::Value unwatch(const Napi::CallbackInfo& info) {
  auto* w = info[0].As<Napi::External<Watcher>>().Data();
  uv_poll_stop(&w->poll);
  uv_close((uv_handle_t*)&w->poll, [](uv_handle_t* h) {
    auto* w = (Watcher*)h->data;
    delete w->context;
    delete w;
  });
  return info.Env().Undefined();
}

void addSyscall(Napi::Env env, Napi::Object exports) {
  add(env, exports, "syscall", rawSyscall);
  add(env, exports, "addressOf", addressOf);
  add(env, exports, "watch", watch);
  add(env, exports, "unwatch", unwatch);
}

}  // namespace understudy
