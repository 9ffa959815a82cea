// Memory that knows what must be in it: two processes, private memory of each, and shared memory of which each writes a half. They
// write, read, and give back page by page and by whole page tables. Who connects is told "right STEPS" once all of it has been
// looked at. Argument: a port.
#include <arpa/inet.h>
#include <poll.h>
#include "program.h"

#define PAGE 4096l
#define PRIVATE_PAGES (24l << 8)
#define SHARED_PAGES (8l << 8)
#define BLOCK_PAGES 512l

// What one process has: pages, and the seed each was filled with; 0: never written, or given back.
struct ground {
  char* base;
  uint64_t* seeds;
  long pages;
};

static struct shared {
  _Atomic long asked, answered, wrong, steps;
}* told;

static long wrong(const struct ground* g, long page) {
  const char* p = g->base + page * PAGE;
  return g->seeds[page] ? !isFilled(p, PAGE, g->seeds[page]) : !isByte(p, PAGE, 0);
}

static long allWrong(const struct ground* g) {
  long n = 0;
  for (long i = 0; i < g->pages; i++) n += wrong(g, i);
  return n;
}

static void writePage(struct ground* g, long page, uint64_t* random) {
  g->seeds[page] = nextRandom(random) | 1;
  fill(g->base + page * PAGE, PAGE, g->seeds[page]);
}

// Mostly one in the first part: most of the memory is as it was for long.
static void writeSome(struct ground* g, uint64_t* random) {
  long pages = nextRandom(random) % 64 ? g->pages / 512 : g->pages;
  writePage(g, nextRandom(random) % pages, random);
}

// A block is zeros until the next one is.
static void giveBack(struct ground* g, uint64_t* random) {
  static long last = -1;
  for (long i = 0; last >= 0 && i < BLOCK_PAGES; i++) writePage(g, last + i, random);
  last = nextRandom(random) % (g->pages / BLOCK_PAGES) * BLOCK_PAGES;
  check(!madvise(g->base + last * PAGE, BLOCK_PAGES * PAGE, MADV_DONTNEED));
  memset(g->seeds + last, 0, BLOCK_PAGES * sizeof *g->seeds);
}

static struct ground map(long pages, int flags) {
  struct ground g = {NULL, calloc(pages, sizeof(uint64_t)), pages};
  // At a page table's beginning.
  char* at = mmap(NULL, (pages + BLOCK_PAGES) * PAGE, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0);
  check(at != MAP_FAILED && g.seeds);
  g.base = (char*)(((uintptr_t)at + BLOCK_PAGES * PAGE - 1) & -(BLOCK_PAGES * PAGE));
  return g;
}

static void step(struct ground* own, struct ground* half, uint64_t* random) {
  for (int i = 0; i < 4; i++) writeSome(own, random);
  writeSome(half, random);
  if (nextRandom(random) % 2000 == 0) giveBack(own, random);
  told->wrong += wrong(own, nextRandom(random) % own->pages) + wrong(half, nextRandom(random) % half->pages);
  told->steps++;
}

static void serve(int listener, struct ground* own, struct ground* half) {
  struct pollfd fd = {listener, POLLIN, 0};
  if (poll(&fd, 1, 1) <= 0) return;
  int client = accept(listener, NULL, NULL);
  if (client < 0) return;
  long number = ++told->asked;
  told->wrong += allWrong(own) + allWrong(half);
  for (int ms = 0; told->answered < number && ms < 60000; ms++) sleepMs(1);
  char line[80];
  int n = told->answered < number ? sprintf(line, "the other process does not answer\n")
          : told->wrong           ? sprintf(line, "%ld pages are wrong\n", told->wrong)
                                  : sprintf(line, "right %ld\n", told->steps);
  if (write(client, line, n) != n) say("A client went away");
  close(client);
}

int main(int argc, char** argv) {
  uint64_t random = 88172645463325252ull;
  told = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  struct ground shared = map(SHARED_PAGES, MAP_SHARED), own = map(PRIVATE_PAGES, MAP_PRIVATE);
  struct ground first = shared, second = shared;
  for (long i = 0; i < SHARED_PAGES; i++) writePage(&shared, i, &random);
  first.pages = second.pages = SHARED_PAGES / 2;
  second.base += first.pages * PAGE;
  second.seeds += first.pages;
  for (long i = 0; i < PRIVATE_PAGES; i++) writePage(&own, i, &random);
  int child = fork();
  check(child >= 0);
  if (child == 0) {
    random += 12345;
    for (;; sleepMs(1)) {
      step(&own, &second, &random);
      if (told->answered == told->asked) continue;
      told->wrong += allWrong(&own) + allWrong(&second);
      told->answered = told->asked;
    }
  }
  int listener = socket(AF_INET, SOCK_STREAM, 0);
  struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(argc > 1 ? atoi(argv[1]) : 7000)};
  check(!bind(listener, (struct sockaddr*)&any, sizeof any) && !listen(listener, 8));
  begin();
  for (;;) {
    step(&own, &first, &random);
    serve(listener, &own, &first);
  }
}
