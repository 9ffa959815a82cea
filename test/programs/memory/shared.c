// Shared anonymous memory between parent and child, and a memfd mapped twice, its descriptor closed. Both sides write in turns
// to the same places, also back to a value that was there before.
#include "program.h"

#define BYTES (64 * 4096)

struct board { volatile uint32_t turn, done; char data[BYTES - 8]; };

int main(void) {
  struct board* board = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  int fd = memfd_create("twice", 0);
  check(!ftruncate(fd, 8 * 4096));
  char* one = mmap(NULL, 8 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  char* two = mmap(NULL, 4 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 4 * 4096);
  close(fd);
  fill(one, 8 * 4096, 7);
  fill(board->data, 16 * 4096, 1);
  if (fork() == 0) {
    for (;;) {
      if (getppid() == 1) _exit(0);
      if (board->turn != board->done) {
        fill(board->data, 16 * 4096, board->turn % 3);
        board->done = board->turn;
      }
      sleepMs(1);
    }
  }
  begin();
  for (uint32_t round = 1;; round++) {
    next();
    check(isFilled(board->data, 16 * 4096, round == 1 ? 1 : round % 2));
    check(isFilled(one, 4 * 4096, round == 1 ? 7 : 6 + round % 2));
    check(!memcmp(one + 4 * 4096, two, 4 * 4096));
    // The child writes; then, in every other round, the parent writes over it.
    board->turn = round * 3 + (round + 1) % 2;
    for (int i = 0; board->done != board->turn; i++) {
      if (i > 1000) fail("the child does not answer");
      sleepMs(1);
    }
    check(isFilled(board->data, 16 * 4096, (round + 1) % 2));
    if (round % 4 > 1) {
      fill(board->data, 16 * 4096, 2);
      fill(board->data, 16 * 4096, (round + 1) % 2);
    }
    fill(one, 4 * 4096, 6 + (round + 1) % 2);
    fill(round % 2 ? two : one + 4 * 4096, 4 * 4096, round);
    ok();
  }
}
