// Counts, each number first in files (its own layer, a volume), then in memory, then to whoever is connected; looks after every step
// whether files and memory are where they must be. Says a number that has the highest bit set when they are not.
// Usage: probe PORT FILE…
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static int client = -1;
static volatile uint64_t* memory;

static void tell(uint64_t value) {
  for (size_t done = 0; done < 8;) {
    ssize_t n = send(client, (char*)&value + done, 8 - done, MSG_NOSIGNAL);
    if (n <= 0) exit(2);
    done += n;
  }
}

static void wrong(uint64_t where, uint64_t found) { tell(1ull << 63 | where << 56 | (found & 0xffffffffffffff)); }

static void expect(uint64_t where, int fd, uint64_t value) {
  uint64_t found = 0;
  if (pread(fd, &found, 8, 0) != 8 || found != value) wrong(where, found);
}

int main(int argc, char** argv) {
  int files = argc - 2, fd[8];
  memory = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  for (int i = 0; i < files; i++) {
    uint64_t none = 0;
    fd[i] = open(argv[2 + i], O_CREAT | O_RDWR, 0644);
    if (fd[i] < 0 || pwrite(fd[i], &none, 8, 0) != 8) return 1;
  }
  int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1]))};
  if (bind(listener, (struct sockaddr*)&at, sizeof at) || listen(listener, 1)) return 1;
  client = accept(listener, 0, 0);
  for (;;) {
    uint64_t now = *memory, next = now + 1;
    for (int i = 0; i < files; i++) expect(1 + i, fd[i], now);
    for (int i = 0; i < files; i++) {
      if (pwrite(fd[i], &next, 8, 0) != 8 || (next % 64 == 0 && fdatasync(fd[i]))) wrong(9, i);
      expect(17 + i, fd[i], next);
    }
    if (*memory != now) wrong(10, *memory);
    *memory = next;
    for (int i = 0; i < files; i++) expect(33 + i, fd[i], next);
    tell(next);
    if (next % 16 == 0) nanosleep(&(struct timespec){0, 1000000}, 0);
  }
}
