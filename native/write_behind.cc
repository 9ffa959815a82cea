// Large writes to files by a thread of their own, one after the other, while the caller goes on with what comes next.
#include "addon.h"
#include <algorithm>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <pthread.h>
#include <system_error>
#include <thread>
#include <unistd.h>

namespace understudy {

// Written in one call: see src/files/apply.ts, WRITE_BYTES.
constexpr size_t kAtOnce = 64 << 10;

struct Piece {
  int fd;
  const char* bytes;
  size_t length;
  off_t at;
};

class WriteBehind {
 public:
  explicit WriteBehind(size_t most) : most_(most) {}
  ~WriteBehind() { end(); }

  // Waits while as many bytes as may wait do. Returns how many pieces are written of all there were.
  size_t push(Piece piece) {
    std::unique_lock lock(mutex_);
    if (!thread_.joinable()) {
      ended_ = false;
      try {
        thread_ = std::thread([this] { run(); });
      } catch (const std::system_error& error) {
        // No more threads for this process (pids.max, RLIMIT_NPROC): it is written here and now.
        if (error_ == 0 && (error_ = write(piece)) != 0) failed_ = finished_;
        finished_++;
        return error_ == 0 ? finished_ : failed_;
      }
    }
    changed_.wait(lock, [&] { return waiting_ == 0 || waiting_ + piece.length <= most_; });
    queue_.push_back(piece);
    waiting_ += piece.length;
    changed_.notify_all();
    return error_ == 0 ? finished_ : failed_;
  }

  // Waits until all pieces are finished; 0 or what the first that failed said, and which of all it was.
  int wait(double* failed) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return queue_.empty(); });
    int error = error_;
    *failed = failed_;
    error_ = 0;
    return error;
  }

  void end() {
    {
      std::unique_lock lock(mutex_);
      ended_ = true;
      changed_.notify_all();
    }
    if (thread_.joinable()) thread_.join();
    thread_ = std::thread();
    error_ = 0;
  }

 private:
  void run() {
    pthread_setname_np(pthread_self(), "write-behind");
    std::unique_lock lock(mutex_);
    for (;;) {
      changed_.wait(lock, [&] { return ended_ || !queue_.empty(); });
      if (queue_.empty()) return;
      Piece piece = queue_.front();
      // What comes behind a failure is of no use to anybody.
      int error = error_;
      lock.unlock();
      if (error == 0) error = write(piece);
      lock.lock();
      if (error_ == 0 && error != 0) {
        error_ = error;
        failed_ = finished_;
      }
      queue_.pop_front();
      waiting_ -= piece.length;
      finished_++;
      changed_.notify_all();
    }
  }

  static int write(const Piece& piece) {
    for (size_t done = 0; done < piece.length;) {
      ssize_t n = pwrite(piece.fd, piece.bytes + done, std::min(kAtOnce, piece.length - done), piece.at + done);
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) return n < 0 ? -errno : -EIO;
      done += n;
    }
    return 0;
  }

  const size_t most_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Piece> queue_;
  std::thread thread_;
  size_t waiting_ = 0, finished_ = 0, failed_ = 0;
  int error_ = 0;
  bool ended_ = false;
};

static WriteBehind& behind(const Napi::Value& v) { return *v.As<Napi::External<WriteBehind>>().Data(); }

// writeBehindNew(most): bytes that may wait; a single piece may be longer.
static Napi::Value make(const Napi::CallbackInfo& info) {
  auto* made = new WriteBehind(word(info[0]));
  return Napi::External<WriteBehind>::New(info.Env(), made, [](Napi::Env, WriteBehind* w) { delete w; });
}

// writeBehindPush(queue, fd, bytes, length, at): both stay as they are until the piece is finished. Returns how many are written.
static Napi::Value push(const Napi::CallbackInfo& info) {
  Piece piece = {(int)word(info[1]), data<char>(info[2]), (size_t)word(info[3]), (off_t)word(info[4])};
  return Napi::Number::New(info.Env(), behind(info[0]).push(piece));
}

// writeBehindWait(queue, failed Float64Array[1]): until all are finished.
static Napi::Value wait(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), behind(info[0]).wait(data<double>(info[1])));
}

// writeBehindEnd(queue): finishes what there is, and ends the thread.
static Napi::Value end(const Napi::CallbackInfo& info) {
  behind(info[0]).end();
  return Napi::Number::New(info.Env(), 0);
}

void addWriteBehind(Napi::Env env, Napi::Object exports) {
  add(env, exports, "writeBehindNew", make);
  add(env, exports, "writeBehindPush", push);
  add(env, exports, "writeBehindWait", wait);
  add(env, exports, "writeBehindEnd", end);
}

}  // namespace understudy
