// Shared declarations of the addon. Every function returns a count or −errno; TypeScript throws.
#pragma once
#include <napi.h>
#include <uv.h>
#include <cerrno>
#include <cstdint>
#include <cstring>

namespace understudy {

// A number argument as 64 bits: numbers, bigints, null (0), or the address of a Buffer's first byte.
inline uint64_t word(const Napi::Value& v) {
  if (v.IsNumber()) return (uint64_t)(int64_t)v.As<Napi::Number>().DoubleValue();
  if (v.IsBigInt()) { bool lossless; return v.As<Napi::BigInt>().Uint64Value(&lossless); }
  if (v.IsTypedArray()) {
    auto t = v.As<Napi::TypedArray>();
    return (uint64_t)t.ArrayBuffer().Data() + t.ByteOffset();
  }
  return 0;
}

template <typename T> inline T* data(const Napi::Value& v, size_t* count = nullptr) {
  auto t = v.As<Napi::TypedArray>();
  if (count) *count = t.ByteLength() / sizeof(T);
  return (T*)((char*)t.ArrayBuffer().Data() + t.ByteOffset());
}

using Function = Napi::Value (*)(const Napi::CallbackInfo&);
inline void add(Napi::Env env, Napi::Object exports, const char* name, Function f) {
  exports.Set(name, Napi::Function::New(env, f, name));
}

void addSyscall(Napi::Env, Napi::Object);
void addTrace(Napi::Env, Napi::Object);
void addMemory(Napi::Env, Napi::Object);
void addSpawn(Napi::Env, Napi::Object);
void addDescriptors(Napi::Env, Napi::Object);
void addNfqueue(Napi::Env, Napi::Object);
void addTcp(Napi::Env, Napi::Object);
void addDigest(Napi::Env, Napi::Object);
void addPageDigests(Napi::Env, Napi::Object);
void addHuge(Napi::Env, Napi::Object);
void addWriteBehind(Napi::Env, Napi::Object);
void addCrc32c(Napi::Env, Napi::Object);

}  // namespace understudy
