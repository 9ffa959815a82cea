// TCP sockets of a stopped application, dumped in one call. Packets keep arriving meanwhile: what is read together is read
// until it agrees. Layout of a record: see src/resources/tcp/record.ts.
#include "addon.h"
#include <linux/sockios.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <vector>

namespace understudy {

static constexpr uint32_t kMagic = 0x31504354;  // "TCP1"
static constexpr int kPeekOffset = 42;          // SO_PEEK_OFF
static constexpr int kOptions = 64;
static constexpr uint32_t kSkipBytes = 16384;   // less than this is peeked again rather than skipped
enum State { Established = 1, SynSent = 2, FinWait1 = 4, FinWait2 = 5, TimeWait = 6, Closed = 7, CloseWait = 8, LastAck = 9, Listen = 10, Closing = 11 };
enum Flag : uint8_t { FinReceived = 1, FinSent = 2, ReadShut = 4, Failed = 8 };

struct Record {
  uint32_t magic, state, family;
  uint8_t local[28], remote[28];
  uint32_t receiveStart, receiveEnd;  // unread bytes [start, end); a received FIN is not counted
  uint32_t sendStart, sendEnd;        // unacknowledged bytes [start, end); an own FIN is not counted
  uint32_t unsent;
  uint32_t window[5];                 // struct tcp_repair_window
  uint32_t mss;
  uint8_t sendScale, receiveScale, negotiated, flags;
  uint32_t timestamp;
  // From here to `receiveFrom`: what tells that nothing changed.
  uint32_t backlog, backlogLimit;
  int32_t options[kOptions];
  uint32_t linger[2];
  uint64_t receiveTimeout[2], sendTimeout[2];
  char congestion[16];
  uint32_t segmentsIn, segmentsOut;
  uint64_t bytesAcknowledged, bytesReceived;
  uint32_t inQueue, outQueue, notSent, sendBase, receiveBase, unused;
  // The bytes that come with this record: the queues' part that the previous record did not have.
  uint32_t receiveFrom, receiveBytes, sendFrom, sendBytes;
  uint32_t owner[2];
};
static_assert(sizeof(Record) == 512);

// The kernel's struct tcp_info as far as it is used; libc's is older.
struct TcpInfo {
  uint8_t state, caState, retransmits, probes, backoff, options, scales, limits;
  uint32_t times1[4], unacked, sacked, rest1[18];
  uint64_t pacing[2], bytesAcked, bytesReceived;
  uint32_t segmentsOut, segmentsIn, notSent, minRtt;
};
static_assert(offsetof(TcpInfo, bytesAcked) == 120 && offsetof(TcpInfo, notSent) == 144);

struct OptionName {
  uint16_t level, name;
};
// Order is the record's; an entry with name 0 is free. Level 41 only for IPv6 sockets.
static const OptionName optionNames[kOptions] = {
    {1, 2},  {1, 15}, {1, 9},  {1, 10}, {1, 12}, {1, 7},  {1, 8},   {1, 72},  {1, 18},  {1, 36},  {1, 62},
    {6, 1},  {6, 3},  {6, 4},  {6, 5},  {6, 6},  {6, 7},  {6, 8},   {6, 9},   {6, 18},  {6, 25},  {6, 23},
    {0, 1},  {0, 2},  {0, 15}, {0, 19}, {0, 24}, {0, 11}, {41, 26}, {41, 67}, {41, 16}, {1, 35}, {1, 37}, {1, 42},
    {1, 46}, {1, 47}, {1, 60}, {1, 69}, {0, 8},  {41, 23}, {41, 25}, {41, 49}, {41, 51}, {41, 66}, {41, 72}, {1, 5},
    {1, 26}, {0, 10}, {0, 13}, {0, 21}, {0, 51}, {41, 33}, {41, 73}, {6, 2},   {6, 10}, {6, 16}, {6, 27}, {6, 36}, {6, 34}};

static constexpr int kInLine = 3;  // SO_OOBINLINE
static constexpr int kPeekOffsetAt = 33;

static int getInt(int fd, int level, int name, void* value, socklen_t size = 4) {
  socklen_t length = size;
  return getsockopt(fd, level, name, value, &length) < 0 ? -errno : 0;
}
static int setInt(int fd, int level, int name, int value) {
  return setsockopt(fd, level, name, &value, sizeof value) < 0 ? -errno : 0;
}

// How many instructions its filter has; those that bpf(2) has loaded are not told, but are there.
static int filterLength(int fd) {
  socklen_t length = 0;
  return getsockopt(fd, SOL_SOCKET, SO_GET_FILTER, nullptr, &length) == 0 ? (int)length : errno == EACCES ? 1 : 0;
}

static void readOptions(int fd, Record& r) {
  for (int i = 0; i < kOptions; i++) {
    auto [level, name] = optionNames[i];
    if (level == SOL_SOCKET && name == SO_GET_FILTER) {
      r.options[i] = filterLength(fd);
      continue;
    }
    if (name == 0 || (level == 41 && r.family != AF_INET6)) continue;
    if (getInt(fd, level, name, &r.options[i]) < 0) r.options[i] = -1;
  }
  getInt(fd, SOL_SOCKET, SO_LINGER, r.linger, sizeof r.linger);
  getInt(fd, SOL_SOCKET, 20 /* SO_RCVTIMEO */, r.receiveTimeout, sizeof r.receiveTimeout);
  getInt(fd, SOL_SOCKET, 21 /* SO_SNDTIMEO */, r.sendTimeout, sizeof r.sendTimeout);
  getInt(fd, IPPROTO_TCP, TCP_CONGESTION, r.congestion, sizeof r.congestion);
}

// What says, without repair mode, whether anything happened since the last dump: packets, bytes read or written, options.
static int readStamps(int fd, Record& r, TcpInfo& ti) {
  memset(&ti, 0, sizeof ti);
  if (int e = getInt(fd, IPPROTO_TCP, TCP_INFO, &ti, sizeof ti)) return e;
  r.state = ti.state;
  if (r.state == Listen) {
    r.backlog = ti.unacked;
    r.backlogLimit = ti.sacked;
    return 0;
  }
  r.segmentsIn = ti.segmentsIn;
  r.segmentsOut = ti.segmentsOut;
  r.bytesAcknowledged = ti.bytesAcked;
  r.bytesReceived = ti.bytesReceived;
  r.notSent = ti.notSent;
  r.inQueue = r.outQueue = 0;
  // Both sides have ended it, but what came before may be unread.
  if (r.state == Closed) return ioctl(fd, SIOCINQ, &r.inQueue) < 0 ? -errno : 0;
  if (ioctl(fd, SIOCINQ, &r.inQueue) < 0 || ioctl(fd, SIOCOUTQ, &r.outQueue) < 0) return -errno;
  return 0;
}

static bool finReceived(uint32_t state) { return state == CloseWait || state == LastAck || state == Closing || state == TimeWait; }
static bool finSent(uint32_t state) { return state == FinWait1 || state == FinWait2 || state == LastAck || state == Closing || state == TimeWait; }

struct Output {
  uint8_t* bytes;
  size_t used, size;
};

// The application's own, which looks would go on from, and move.
class PeekOffset {
  int fd, offset;

 public:
  PeekOffset(int fd, int offset) : fd(fd), offset(offset) {
    if (offset >= 0) setInt(fd, SOL_SOCKET, kPeekOffset, -1);
  }
  ~PeekOffset() {
    if (offset >= 0) setInt(fd, SOL_SOCKET, kPeekOffset, offset);
  }
};

// Unread bytes of the receive queue from `skip` on; they stay where they are.
static int peekReceived(int fd, uint32_t skip, uint32_t count, int offset, Output& out, std::vector<uint8_t>& scratch) {
  if (count == 0) return 0;
  PeekOffset own(fd, offset);
  if (skip >= kSkipBytes && setInt(fd, SOL_SOCKET, kPeekOffset, (int)skip) == 0) {
    ssize_t n = recv(fd, out.bytes + out.used, count, MSG_PEEK | MSG_DONTWAIT);
    setInt(fd, SOL_SOCKET, kPeekOffset, -1);
    if (n == (ssize_t)count) return 0;
  }
  if (skip == 0) {
    ssize_t n = recv(fd, out.bytes + out.used, count, MSG_PEEK | MSG_DONTWAIT);
    if (n == (ssize_t)count || n < 0) return n < 0 ? -errno : 0;
    // A look ends where urgent data begins; another one goes on there.
    if (int e = setInt(fd, SOL_SOCKET, kPeekOffset, (int)n)) return e;
    ssize_t rest = recv(fd, out.bytes + out.used + n, count - (size_t)n, MSG_PEEK | MSG_DONTWAIT);
    int error = errno;
    setInt(fd, SOL_SOCKET, kPeekOffset, -1);
    return n + rest == (ssize_t)count ? 0 : rest < 0 ? -error : -EIO;
  }
  scratch.resize((size_t)skip + count);
  ssize_t n = recv(fd, scratch.data(), scratch.size(), MSG_PEEK | MSG_DONTWAIT);
  if (n != (ssize_t)scratch.size()) return n < 0 ? -errno : -EIO;
  memcpy(out.bytes + out.used, scratch.data() + skip, count);
  return 0;
}

// The whole send queue, whose end is the end of what the application wrote. The send queue stays selected as shortly as
// possible: in that state the kernel counts unsent bytes as sent when an acknowledgement comes in.
static ssize_t peekSent(int fd, uint32_t queued, std::vector<uint8_t>& scratch) {
  for (size_t size = (size_t)queued + 65536;; size *= 2) {
    scratch.resize(size);
    if (int e = setInt(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, TCP_SEND_QUEUE)) return e;
    ssize_t n = recv(fd, scratch.data(), size, MSG_PEEK | MSG_DONTWAIT);
    int error = errno;
    setInt(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, TCP_NO_QUEUE);
    if (n >= 0 || error != EFAULT || size > (1u << 30)) return n >= 0 ? n : -error;
  }
}

// Sequence numbers come from the queues at a socket's first dump; later from the kernel's counts of bytes, which need no
// repair mode and never select the send queue.
static int learnBases(int fd, Record& r, TcpInfo& ti) {
  uint32_t sendEnd, receiveEnd, again;
  // Only in repair mode this is what the peer offered, not what one segment carries now.
  getInt(fd, IPPROTO_TCP, TCP_MAXSEG, &r.mss);
  setInt(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, TCP_SEND_QUEUE);
  int e = getInt(fd, IPPROTO_TCP, TCP_QUEUE_SEQ, &sendEnd);
  setInt(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, TCP_RECV_QUEUE);
  if (e || (e = getInt(fd, IPPROTO_TCP, TCP_QUEUE_SEQ, &receiveEnd))) return e;
  for (uint64_t acknowledged = ~0ull;;) {
    if ((e = readStamps(fd, r, ti)) || (e = getInt(fd, IPPROTO_TCP, TCP_QUEUE_SEQ, &again))) return e;
    if (again == receiveEnd && acknowledged == r.bytesAcknowledged) break;
    receiveEnd = again;
    acknowledged = r.bytesAcknowledged;
  }
  setInt(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, TCP_NO_QUEUE);
  r.sendBase = sendEnd - r.outQueue - (uint32_t)r.bytesAcknowledged;
  r.receiveBase = receiveEnd - (uint32_t)r.bytesReceived;
  return 0;
}

// What is unread of a connection that both sides have ended: it has no sequence numbers any more.
static int dumpEnded(int fd, Record& r, Output& out) {
  r.receiveStart = r.receiveFrom = r.sendStart = r.sendFrom = r.sendEnd = r.sendBytes = 0;
  r.receiveEnd = r.receiveBytes = r.inQueue;
  if (r.receiveBytes == 0) return 0;
  if (out.used + r.receiveBytes > out.size) return -ENOBUFS;
  PeekOffset own(fd, r.options[kPeekOffsetAt]);
  ssize_t n = recv(fd, out.bytes + out.used, r.receiveBytes, MSG_PEEK | MSG_DONTWAIT);
  if (n != (ssize_t)r.receiveBytes) return n < 0 ? -errno : -EIO;
  return 0;
}

// What the kernel had of a socket a moment ago in this stop, read without touching it: see src/resources/tcp/stamp.ts.
struct Stamp {
  uint64_t bytesAcknowledged, bytesReceived, socketFlags;
  uint32_t state, segmentsIn, segmentsOut, shutdown, received, copied, written, unacknowledged, sent, window[5], backlog, backlogLimit;
  int32_t error;
  uint32_t unsettled;
};
static_assert(sizeof(Stamp) == 96);
constexpr uint64_t kSocketDone = 1 << 1;  // SOCK_DONE: a FIN was received, which the sequence numbers count
constexpr uint32_t kReceiveShut = 1;

static bool isConnected(uint32_t state) {
  return state == Established || state == FinWait1 || state == FinWait2 || state == CloseWait || state == LastAck || state == Closing;
}

// As readStamps, without a system call.
static void takeStamp(Record& r, const Stamp& s) {
  r.state = s.state;
  r.segmentsIn = s.segmentsIn;
  r.segmentsOut = s.segmentsOut;
  r.bytesAcknowledged = s.bytesAcknowledged;
  r.bytesReceived = s.bytesReceived;
  r.notSent = (int32_t)(s.written - s.sent) > 0 ? s.written - s.sent : 0;
  r.inQueue = s.received - s.copied;
  if (r.inQueue > 0 && (s.socketFlags & kSocketDone)) r.inQueue--;
  r.outQueue = s.written - s.unacknowledged;
  memcpy(r.window, s.window, sizeof r.window);
}

static void endRepair(int fd, const Record& r) {
  setInt(fd, IPPROTO_TCP, TCP_REPAIR, -1);
  // Leaving repair mode clears the address-reuse flag that the application had set.
  if (r.options[0] > 0) setInt(fd, SOL_SOCKET, SO_REUSEADDR, r.options[0]);
}

// The queues, whose ends the record's counts tell. `repaired`: the socket is in repair mode already.
static int copyQueues(int fd, Record& r, const Record* previous, bool repaired, Output& out) {
  static std::vector<uint8_t> scratch;
  uint32_t fin = finSent(r.state) ? 1 : 0;
  r.flags = (finReceived(r.state) ? FinReceived : 0) | (fin ? FinSent : 0);
  r.receiveEnd = r.receiveBase + (uint32_t)r.bytesReceived - (finReceived(r.state) ? 1 : 0);
  r.receiveStart = r.receiveEnd - r.inQueue;
  r.sendEnd = r.sendBase + (uint32_t)r.bytesAcknowledged + r.outQueue - fin;
  uint32_t queued = r.state == FinWait2 || r.state == TimeWait ? 0 : r.outQueue > fin ? r.outQueue - fin : 0;
  r.sendStart = r.sendEnd - queued;
  r.unsent = r.notSent;

  // What the previous record has not.
  r.receiveFrom = r.receiveStart;
  r.sendFrom = r.sendStart;
  if (previous) {
    if ((int32_t)(previous->receiveEnd - r.receiveStart) > 0) r.receiveFrom = previous->receiveEnd;
    if ((int32_t)(previous->sendEnd - r.sendStart) > 0) r.sendFrom = previous->sendEnd;
  }
  r.receiveBytes = r.receiveEnd - r.receiveFrom;
  r.sendBytes = r.sendEnd - r.sendFrom;
  if (out.used + r.receiveBytes + r.sendBytes > out.size) return -ENOBUFS;
  if (r.sendBytes > 0) {
    if (!repaired)
      if (int e = setInt(fd, IPPROTO_TCP, TCP_REPAIR, 1)) return e;
    ssize_t n = peekSent(fd, queued, scratch);
    if (!repaired) endRepair(fd, r);
    if (n < 0) return (int)n;
    if ((size_t)n < r.sendBytes) {
      // Acknowledged meanwhile: the peer has what is gone.
      r.sendFrom = r.sendStart = r.sendEnd - (uint32_t)n;
      r.sendBytes = (uint32_t)n;
    }
    memcpy(out.bytes + out.used + r.receiveBytes, scratch.data() + n - r.sendBytes, r.sendBytes);
  }
  if (r.receiveBytes == 0) return 0;
  if (repaired) setInt(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, TCP_RECV_QUEUE);
  return peekReceived(fd, r.receiveFrom - r.receiveStart, r.receiveBytes, r.options[kPeekOffsetAt], out, scratch);
}

// `previous`: of the same connection, or none.
static int dumpQueues(int fd, Record& r, const Record* previous, TcpInfo& ti, Output& out) {
  if (!previous)
    if (int e = learnBases(fd, r, ti)) return e;
  // Read together what belongs together: two looks around the window must be the same.
  for (;;) {
    Record before = r;
    if (int e = getInt(fd, IPPROTO_TCP, 29 /* TCP_REPAIR_WINDOW */, r.window, sizeof r.window)) return e;
    if (int e = readStamps(fd, r, ti)) return e;
    if (r.state == Closed) {
      r.flags = ReadShut;
      return dumpEnded(fd, r, out);
    }
    if (before.state == r.state && before.segmentsIn == r.segmentsIn && before.segmentsOut == r.segmentsOut &&
        before.bytesReceived == r.bytesReceived && before.bytesAcknowledged == r.bytesAcknowledged &&
        before.inQueue == r.inQueue && before.outQueue == r.outQueue)
      break;
  }
  return copyQueues(fd, r, previous, true, out);
}

// While urgent data waits apart from the rest, the kernel tells of what comes before it only: for the dump it belongs to the rest.
class UrgentInLine {
  int fd;

 public:
  UrgentInLine(int fd, bool on) : fd(on ? fd : -1) {
    if (on) setInt(fd, SOL_SOCKET, SO_OOBINLINE, 1);
  }
  ~UrgentInLine() {
    if (fd >= 0) setInt(fd, SOL_SOCKET, SO_OOBINLINE, 0);
  }
};

// Dumps one socket into `r`. 1 changed, 0 as in `previous`, −errno. With a stamp most of it needs no system call.
static int dumpOne(int fd, Record& r, const Record* previous, bool options, const Stamp* stamp, Output& out) {
  TcpInfo ti;
  bool stamped = stamp && previous && previous->state == stamp->state && isConnected(stamp->state) && !stamp->unsettled;
  if (previous) r = *previous;
  else {
    memset(&r, 0, sizeof r);
    int family;
    if (int e = getInt(fd, SOL_SOCKET, SO_DOMAIN, &family)) return e;
    r.family = (uint32_t)family;
    struct stat status;
    if (fstat(fd, &status) == 0) {
      r.owner[0] = status.st_uid;
      r.owner[1] = status.st_gid;
    }
    // A predecessor that died in the middle of a dump may have left repair mode on.
    int repair = 0;
    if (getInt(fd, IPPROTO_TCP, TCP_REPAIR, &repair) == 0 && repair) setInt(fd, IPPROTO_TCP, TCP_REPAIR, -1);
  }
  r.receiveBytes = r.sendBytes = 0;
  if (stamped) takeStamp(r, *stamp);
  else if (int e = readStamps(fd, r, ti)) return e;
  if (options || !previous) readOptions(fd, r);
  bool seldom = r.state == Closed || r.state == Listen || r.state == SynSent;
  if (!previous || previous->state != r.state || seldom) {
    socklen_t length = sizeof r.local;
    memset(r.local, 0, sizeof r.local);
    memset(r.remote, 0, sizeof r.remote);
    getsockname(fd, (sockaddr*)r.local, &length);
    length = sizeof r.remote;
    getpeername(fd, (sockaddr*)r.remote, &length);
  }
  pollfd poller = {fd, POLLRDHUP | POLLERR | POLLHUP | POLLPRI, 0};
  if (stamped) {
    // Urgent data is among what is unread: only then its owner is asked.
    poller.events = POLLPRI;
    if (r.inQueue > 0) poll(&poller, 1, 0);
    poller.revents &= POLLPRI;
    poller.revents |= (stamp->shutdown & kReceiveShut ? POLLRDHUP : 0) | (stamp->error ? POLLERR : 0);
  } else if (r.state != Listen) poll(&poller, 1, 0);
  UrgentInLine urgent(fd, (poller.revents & POLLPRI) && r.options[kInLine] == 0);
  if (!stamped && (poller.revents & POLLPRI))
    if (int e = readStamps(fd, r, ti)) return e;
  r.flags &= ~(ReadShut | Failed);
  if ((poller.revents & POLLRDHUP) && !finReceived(r.state)) r.flags |= ReadShut;
  if (poller.revents & POLLERR) r.flags |= Failed;
  if (previous) {
    uint32_t receiveBytes = previous->receiveBytes, sendBytes = previous->sendBytes;
    size_t from = offsetof(Record, backlog), to = offsetof(Record, receiveFrom);
    bool same = previous->state == r.state && previous->flags == r.flags && !memcmp(previous->local, r.local, 56) &&
                !memcmp((char*)previous + from, (char*)&r + from, to - from);
    if (same) {
      r.receiveBytes = receiveBytes;
      r.sendBytes = sendBytes;
      return 0;
    }
  }
  r.magic = kMagic;
  if (r.state == Closed)
    if (int e = dumpEnded(fd, r, out)) return e;
  if (r.state == Closed) out.used += r.receiveBytes;
  if (r.state == Listen || r.state == Closed || r.state == SynSent) return 1;

  getInt(fd, IPPROTO_TCP, TCP_TIMESTAMP, &r.timestamp);
  uint8_t extra = r.flags & (ReadShut | Failed);
  int result;
  if (stamped) result = copyQueues(fd, r, previous, false, out);
  else {
    r.negotiated = ti.options;
    r.sendScale = ti.scales & 15;
    r.receiveScale = ti.scales >> 4;
    if (int e = setInt(fd, IPPROTO_TCP, TCP_REPAIR, 1)) return e;
    // What was not connected yet had neither queues nor sequence numbers.
    result = dumpQueues(fd, r, previous && isConnected(previous->state) ? previous : nullptr, ti, out);
    endRepair(fd, r);
  }
  if (result < 0) return result;
  r.flags |= extra;
  out.used += r.receiveBytes + r.sendBytes;
  return 1;
}

// In these states nothing happens to a socket that its stamp does not show; an unconnected one may get another address.
static bool isToldByStamp(uint32_t state) { return isConnected(state) || state == Listen; }

// tcpDump(pidfds, fds, slots, previous, next, results, bytes, options, stampsAt, stamps, known, used): for each i, the socket that is
// descriptor fds[i] of the process pidfds[i] (−1: of this process) is dumped into record slots[i] of `next`, compared with that of
// `previous` (none when its magic is 0). `options` false: nobody called setsockopt since then, so that options need not be read.
// stampsAt[i]: where in `stamps` its stamp is, −1 for none; the one of its last dump is known[slots[i]], and when it is the same,
// nothing is done. results[i]: 1 changed, 0 unchanged, −errno. Returns how many were done: fewer than asked for when `bytes` is full.
// used[0]: bytes used, before and after.
static Napi::Value tcpDump(const Napi::CallbackInfo& info) {
  size_t count, size;
  auto* pidfds = data<int32_t>(info[0]);
  auto* fds = data<int32_t>(info[1], &count);
  auto* slots = data<int32_t>(info[2]);
  auto* previous = data<Record>(info[3]);
  auto* next = data<Record>(info[4]);
  auto* results = data<int32_t>(info[5]);
  auto* bytes = data<uint8_t>(info[6], &size);
  bool options = info[7].As<Napi::Boolean>().Value();
  auto* stampsAt = data<int32_t>(info[8]);
  auto* stamps = data<uint8_t>(info[9]);
  auto* known = data<Stamp>(info[10]);
  auto* used = data<double>(info[11]);
  Output out = {bytes, (size_t)used[0], size};
  size_t i = 0;
  for (; i < count; i++) {
    const Record* before = previous[slots[i]].magic == kMagic ? &previous[slots[i]] : nullptr;
    const Stamp* stamp = stampsAt[i] < 0 ? nullptr : (const Stamp*)(stamps + stampsAt[i]);
    Stamp* knownStamp = &known[slots[i]];
    bool same = stamp && before && !options && !stamp->unsettled && isToldByStamp(before->state) && !memcmp(stamp, knownStamp, sizeof *stamp);
    if (same) {
      results[i] = 0;
      continue;
    }
    int fd = pidfds[i] < 0 ? fds[i] : (int)syscall(438 /* pidfd_getfd */, pidfds[i], fds[i], 0);
    if (fd < 0) {
      results[i] = -errno;
      continue;
    }
    results[i] = dumpOne(fd, next[slots[i]], before, options, stamp, out);
    if (pidfds[i] >= 0) close(fd);
    if (results[i] == 0 && stamp) *knownStamp = *stamp;
    if (results[i] == -ENOBUFS) break;
  }
  used[0] = (double)out.used;
  return Napi::Number::New(info.Env(), (double)i);
}

void addTcp(Napi::Env env, Napi::Object exports) { add(env, exports, "tcpDump", tcpDump); }

}  // namespace understudy
