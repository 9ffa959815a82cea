// Waiting for a thread that is traced, up to a deadline.
#pragma once
#include <signal.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>
#include <cerrno>
#include <cstdint>

namespace understudy {

inline uint64_t nowNs() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000ull + t.tv_nsec;
}

// Ends a blocking wait of this thread with EINTR at a deadline. A thread that waits in the kernel leaves its processor to the
// threads it waits for; naps would take it from them again and again, and each nap costs more than it lasts.
class Alarm {
  static constexpr uint64_t kAgainNs = 1000000;  // an alarm between two waits must not be the last
  static int create(timer_t* timer) {
    struct sigaction nothing = {};
    nothing.sa_handler = [](int) {};
    sigevent event = {};
    event.sigev_notify = SIGEV_THREAD_ID;
    event.sigev_signo = SIGRTMAX - 2;
    event._sigev_un._tid = gettid();
    if (sigaction(event.sigev_signo, &nothing, nullptr) < 0 || timer_create(CLOCK_MONOTONIC, &event, timer) < 0) return -errno;
    return 0;
  }
  inline static timer_t timer;

  static int set(uint64_t afterNs, uint64_t everyNs) {
    itimerspec t = {{0, (long)everyNs}, {(time_t)(afterNs / 1000000000), (long)(afterNs % 1000000000)}};
    return timer_settime(timer, 0, &t, nullptr) < 0 ? -errno : 0;
  }

 public:
  int error;
  explicit Alarm(uint64_t afterNs) {
    static int made = create(&timer);
    error = made ? made : set(afterNs + 1, kAgainNs);
  }
  ~Alarm() {
    if (!error) set(0, 0);
  }
};

}  // namespace understudy
