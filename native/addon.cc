#include "addon.h"

static Napi::Object init(Napi::Env env, Napi::Object exports) {
  understudy::addSyscall(env, exports);
  understudy::addTrace(env, exports);
  understudy::addMemory(env, exports);
  understudy::addSpawn(env, exports);
  understudy::addDescriptors(env, exports);
  understudy::addNfqueue(env, exports);
  understudy::addTcp(env, exports);
  understudy::addDigest(env, exports);
  understudy::addPageDigests(env, exports);
  understudy::addHuge(env, exports);
  understudy::addWriteBehind(env, exports);
  understudy::addCrc32c(env, exports);
  return exports;
}

NODE_API_MODULE(understudy, init)
