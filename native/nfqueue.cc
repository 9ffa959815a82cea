// The loops of held output: reading the kernel's list of queued packets, one verdict for many, and frames handed on.
#include "addon.h"
#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_queue.h>
#include <linux/netlink.h>
#include <sys/socket.h>

namespace understudy {

static constexpr int kBatch = 64;
static constexpr size_t kMessageBytes = 1024;  // metadata only: about 200 bytes

// Takes id and length out of one packet message; false when it is something else.
static bool parsePacket(const char* message, size_t size, uint32_t* id) {
  auto* header = (const nlmsghdr*)message;
  if (size < 20 || (header->nlmsg_type & 0xff) != NFQNL_MSG_PACKET || (header->nlmsg_type >> 8) != NFNL_SUBSYS_QUEUE) return false;
  for (size_t at = 20; at + 4 <= size;) {
    auto* attribute = (const nlattr*)(message + at);
    if (attribute->nla_len < 4) break;
    if ((attribute->nla_type & NLA_TYPE_MASK) == NFQA_PACKET_HDR) {
      uint32_t value;
      memcpy(&value, message + at + 4, 4);
      *id = ntohl(value);
      return true;
    }
    at += NLA_ALIGN(attribute->nla_len);
  }
  return false;
}

// queueDrain(fd, out Float64Array(3)): out = packets, last id, other messages. Never waits.
static Napi::Value queueDrain(const Napi::CallbackInfo& info) {
  int fd = info[0].As<Napi::Number>().Int32Value();
  auto* out = data<double>(info[1]);
  static char buffers[kBatch][kMessageBytes];
  static iovec vectors[kBatch];
  static mmsghdr messages[kBatch];
  uint64_t packets = 0, others = 0;
  uint32_t last = 0;
  long error = 0;
  for (;;) {
    for (int i = 0; i < kBatch; i++) {
      vectors[i] = {buffers[i], kMessageBytes};
      messages[i] = {};
      messages[i].msg_hdr.msg_iov = &vectors[i];
      messages[i].msg_hdr.msg_iovlen = 1;
    }
    int n = recvmmsg(fd, messages, kBatch, MSG_DONTWAIT, nullptr);
    if (n < 0) {
      if (errno == EINTR) continue;
      if (errno != EAGAIN) error = -errno;
      break;
    }
    for (int i = 0; i < n; i++) {
      // A message may hold several; the kernel sends packets one by one.
      size_t left = messages[i].msg_len;
      for (char* at = buffers[i]; left >= sizeof(nlmsghdr);) {
        size_t size = ((nlmsghdr*)at)->nlmsg_len;
        if (size < sizeof(nlmsghdr) || size > left) break;
        if (parsePacket(at, size, &last)) packets++;
        else others++;
        size_t step = NLMSG_ALIGN(size);
        if (step >= left) break;
        at += step;
        left -= step;
      }
    }
    if (n < kBatch) break;
  }
  out[0] = (double)packets;
  out[1] = last;
  out[2] = (double)others;
  return Napi::Number::New(info.Env(), (double)error);
}

// queueVerdict(fd, queue, upToId, verdict): one batch verdict; the packets' onward way runs inside this call.
static Napi::Value queueVerdict(const Napi::CallbackInfo& info) {
  struct {
    nlmsghdr header;
    nfgenmsg general;
    nlattr attribute;
    nfqnl_msg_verdict_hdr verdict;
  } message = {};
  message.header.nlmsg_len = sizeof message;
  message.header.nlmsg_type = (NFNL_SUBSYS_QUEUE << 8) | NFQNL_MSG_VERDICT_BATCH;
  message.header.nlmsg_flags = NLM_F_REQUEST;
  message.general.nfgen_family = AF_UNSPEC;
  message.general.res_id = htons((uint16_t)info[1].As<Napi::Number>().Uint32Value());
  message.attribute = {sizeof(nlattr) + sizeof(nfqnl_msg_verdict_hdr), NFQA_VERDICT_HDR};
  message.verdict.id = htonl(info[2].As<Napi::Number>().Uint32Value());
  message.verdict.verdict = htonl(info[3].As<Napi::Number>().Uint32Value());
  ssize_t r = send(info[0].As<Napi::Number>().Int32Value(), &message, sizeof message, 0);
  return Napi::Number::New(info.Env(), r < 0 ? -errno : 0);
}

// forwardFrames(from, to): frames of up to 64 KB with their virtio_net_hdr, from one packet socket to another.
static Napi::Value forwardFrames(const Napi::CallbackInfo& info) {
  int from = info[0].As<Napi::Number>().Int32Value(), to = info[1].As<Napi::Number>().Int32Value();
  static char frame[1 << 17];
  long count = 0;
  for (;;) {
    ssize_t n = recv(from, frame, sizeof frame, MSG_DONTWAIT);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Napi::Number::New(info.Env(), errno == EAGAIN ? count : -errno);
    // A frame that the other side does not take is lost as on any network.
    if (send(to, frame, n, MSG_DONTWAIT) >= 0) count++;
  }
}

void addNfqueue(Napi::Env env, Napi::Object exports) {
  add(env, exports, "queueDrain", queueDrain);
  add(env, exports, "queueVerdict", queueVerdict);
  add(env, exports, "forwardFrames", forwardFrames);
}

}  // namespace understudy
