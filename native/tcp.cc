#include "addon.h"
namespace understudy {
void addTcp(Napi::Env env, Napi::Object exports) {}
}  // namespace understudy
