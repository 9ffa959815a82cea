// Between two checkpoints the program becomes another one, from a second thread as well; same pid, nothing of the old memory.
#include "program.h"
#include <pthread.h>

static char** arguments;

static void again(int round) {
  char text[16];
  snprintf(text, sizeof text, "%d", round);
  execl("/proc/self/exe", arguments[0], text, NULL);
  fail("exec");
}
static void* fromThread(void* argument) {
  again((int)(long)argument);
  return NULL;
}

int main(int argc, char** argv) {
  arguments = argv;
  long round = argc > 1 ? atoi(argv[1]) : 0;
  char* memory = malloc(1 << 20);
  fill(memory, 1 << 20, round);
  if (round == 0) begin();
  else ok();
  next();
  equal(getpid(), 2);
  check(isFilled(memory, 1 << 20, round));
  pthread_t thread;
  if (round % 2) again(round + 1);
  check(!pthread_create(&thread, NULL, fromThread, (void*)(round + 1)));
  pthread_join(thread, NULL);
}
