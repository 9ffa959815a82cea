// FIFOs at their edges: opened for reading alone, for both, with a blocked opener, removed while open, with content and no writer.
#include "program.h"
#include <poll.h>
#include <pthread.h>

static volatile int opened = -1;
static void* opener(void* path) {
  int fd = open(path, O_WRONLY);
  check(fd >= 0);
  opened = fd;
  return NULL;
}

int main(void) {
  char back[100];
  const char* names[] = {"/tmp/f-both", "/tmp/f-reader", "/tmp/f-gone", "/tmp/f-waits"};
  for (int i = 0; i < 4; i++) {
    unlink(names[i]);
    check(!mkfifo(names[i], 0600));
  }
  int both = open(names[0], O_RDWR), reader = open(names[1], O_RDONLY | O_NONBLOCK);
  int gone = open(names[2], O_RDWR | O_NONBLOCK);
  check(!unlink(names[2]));
  check(write(gone, "inside", 6) == 6 && write(both, "kept", 4) == 4);
  signal(SIGPIPE, SIG_IGN);
  pthread_t t;
  check(!pthread_create(&t, NULL, opener, (void*)names[3]));
  sleepMs(50);
  begin();
  for (int round = 0;; round++) {
    next();
    check(read(both, back, 4) == 4 && !memcmp(back, "kept", 4) && write(both, "kept", 4) == 4);
    check(read(gone, back, 6) == 6 && !memcmp(back, "inside", 6) && write(gone, "inside", 6) == 6);
    equal(read(reader, back, 1), 0);
    int writer = open(names[1], O_WRONLY | O_NONBLOCK);
    check(writer >= 0 && write(writer, "hi", 2) == 2 && read(reader, back, 2) == 2);
    close(writer);
    if (round == 1) {
      check(opened < 0);
      int end = open(names[3], O_RDONLY);
      for (int n = 0; opened < 0; n++) {
        if (n > 3000) fail("the opener does not go on");
        sleepMs(1);
      }
      check(write(opened, "through", 7) == 7 && read(end, back, 7) == 7);
      close(end);
    }
    ok();
  }
}
