// Capabilities in all five sets, securebits, supplementary groups, file system ids; of a thread that keeps its own.
#include "program.h"
#include <linux/capability.h>
#include <linux/securebits.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>

static void getCaps(uint32_t* out) {
  struct __user_cap_header_struct h = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct d[2];
  check(!syscall(SYS_capget, &h, d));
  for (int i = 0; i < 2; i++) out[3 * i] = d[i].effective, out[3 * i + 1] = d[i].permitted, out[3 * i + 2] = d[i].inheritable;
}

int main(void) {
  struct __user_cap_header_struct h = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct d[2];
  check(!prctl(PR_CAPBSET_DROP, CAP_SYS_BOOT));
  check(!prctl(PR_SET_SECUREBITS, SECBIT_KEEP_CAPS | SECBIT_NO_SETUID_FIXUP | SECBIT_NOROOT));
  check(!setresgid(33, 34, 35));
  check(!setresuid(44, 45, 46));
  check(!syscall(SYS_capget, &h, d));
  d[0].inheritable = (1u << CAP_NET_RAW) | (1u << CAP_CHOWN);
  d[0].permitted = (1u << CAP_NET_RAW) | (1u << CAP_CHOWN) | (1u << CAP_SYS_NICE) | (1u << CAP_SETUID);
  d[0].effective = (1u << CAP_CHOWN) | (1u << CAP_SETUID);
  d[1].inheritable = d[1].permitted = d[1].effective = 0;
  check(!syscall(SYS_capset, &h, d));
  check(!prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_CHOWN, 0, 0));
  setfsuid(46);
  uint32_t caps[6], now[6];
  getCaps(caps);
  int bits = prctl(PR_GET_SECUREBITS);
  begin();
  for (;;) {
    next();
    getCaps(now);
    for (int i = 0; i < 6; i++)
      if (now[i] != caps[i]) fail("set %d is %x, not %x", i, now[i], caps[i]);
    equal(prctl(PR_GET_SECUREBITS), bits);
    equal(prctl(PR_CAPBSET_READ, CAP_SYS_BOOT), 0);
    equal(prctl(PR_CAPBSET_READ, CAP_CHOWN), 1);
    equal(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_CHOWN, 0, 0), 1);
    equal(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_NET_RAW, 0, 0), 0);
    equal(setfsuid(-1), 46);
    equal(setfsgid(-1), 34);
    ok();
  }
}
