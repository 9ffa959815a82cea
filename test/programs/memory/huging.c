// Huge pages (hugetlb) in motion: all the time words of them are written, whole pages are given back, and touched again or not, also
// of shared memory and by another process; areas come and go at the same place; children have what was there at the fork.
// Huge pages: 100
#include "huge.h"

#define PAGES 6
#define WORDS (HUGE / 8)

// What a page should hold: nothing but zeros, but for some words.
struct model {
  int words;
  struct { uint32_t at; uint64_t value; } word[64];
};

static struct model own[PAGES], common[PAGES];
static uint64_t random_ = 88172645463325252ull, *private, *shared;

static int below(int n) { return nextRandom(&random_) % n; }

static void look(const struct model* model, const uint64_t* page) {
  for (int i = 0; i < model->words; i++) equal(page[model->word[i].at], model->word[i].value);
  for (int i = 0; i < 16; i++) {
    uint32_t at = below(WORDS);
    uint64_t wanted = 0;
    for (int w = 0; w < model->words; w++) if (model->word[w].at == at) wanted = model->word[w].value;
    equal(page[at], wanted);
  }
}

static void lookClosely(const struct model* model, const uint64_t* page) {
  look(model, page);
  size_t set = 0, wanted = 0;
  for (size_t i = 0; i < WORDS; i++) set += page[i] != 0;
  for (int i = 0; i < model->words; i++) wanted += model->word[i].value != 0;
  equal(set, wanted);
}

// Chooses a word and what it is to be; zero now and then, for no word alone tells that a page was given back.
static int change(struct model* model) {
  int i = below(64);
  if (i >= model->words) {
    i = model->words++;
    for (int taken = 1; taken;) {
      model->word[i].at = below(4) ? below(WORDS) : below(8);
      taken = 0;
      for (int w = 0; w < i; w++) taken |= model->word[w].at == model->word[i].at;
    }
  }
  model->word[i].value = below(4) ? nextRandom(&random_) : 0;
  return i;
}

static void put(struct model* model, uint64_t* page) {
  int i = change(model);
  page[model->word[i].at] = model->word[i].value;
}

static void giveBack(struct model* model, uint64_t* page, int advice) {
  check(!madvise(page, HUGE, advice));
  memset(model, 0, sizeof *model);
  if (below(2)) equal(page[below(WORDS)], 0);
}

// A child has what was there at the fork, changes its own copy, and writes to what both have.
static void inChild(struct model* model, uint64_t* page) {
  int i = change(model);
  pid_t child = fork();
  if (child == 0) {
    for (int p = 0; p < PAGES; p++) look(&own[p], private + p * WORDS);
    private[below(WORDS)] = 1;
    page[model->word[i].at] = model->word[i].value;
    _exit(0);
  }
  int status;
  check(waitpid(child, &status, 0) == child);
  equal(status, 0);
}

static void mapAgain(void) {
  void* at = private + (PAGES - 1) * WORDS;
  check(!munmap(at, HUGE));
  int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_FIXED_NOREPLACE;
  check(mmap(at, HUGE, PROT_READ | PROT_WRITE, flags, -1, 0) == at);
  memset(&own[PAGES - 1], 0, sizeof own[0]);
}

// To another place and, the next time, back.
static void move(void) {
  static char* place[2];
  static int there;
  if (!place[0]) {
    place[0] = mapHuge(1, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1);
    place[1] = mapHuge(1, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1);
    check(!munmap(place[1], HUGE));
    memcpy(place[0] + 4096, "moving", 6);
  }
  check(!memcmp(place[there] + 4096, "moving", 6) && !place[there][0]);
  check(mremap(place[there], HUGE, HUGE, MREMAP_MAYMOVE | MREMAP_FIXED, place[!there]) == place[!there]);
  there = !there;
}

// Comes and goes at the same place; nobody may hold its pages longer.
static void passing(int round) {
  char* at = mapHuge(2, MAP_SHARED | MAP_ANONYMOUS | MAP_HUGETLB, -1);
  check(isByte(at, 4096, 0));
  fill(at + HUGE, 4096, round);
  check(isFilled(at + HUGE, 4096, round));
  check(!munmap(at, 2 * HUGE));
}

int main(void) {
  private = (void*)mapHuge(PAGES, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1);
  shared = (void*)mapHuge(PAGES, MAP_SHARED | MAP_ANONYMOUS | MAP_HUGETLB, -1);
  begin();
  for (int round = 0;; round++) {
    if (asked()) {
      for (int p = 0; p < PAGES; p++) {
        lookClosely(&own[p], private + p * WORDS);
        lookClosely(&common[p], shared + p * WORDS);
      }
      ok();
    }
    int p = below(PAGES);
    look(&own[p], private + p * WORDS);
    look(&common[p], shared + p * WORDS);
    switch (below(12)) {
      case 0: giveBack(&own[p], private + p * WORDS, MADV_DONTNEED); break;
      case 1: giveBack(&common[p], shared + p * WORDS, MADV_REMOVE); break;
      // The object keeps what is in it, also what was written a moment ago.
      case 2:
        if (below(2)) put(&common[p], shared + p * WORDS);
        check(!madvise(shared + p * WORDS, HUGE, MADV_DONTNEED));
        break;
      case 3: inChild(&common[p], shared + p * WORDS); break;
      case 4: mapAgain(); move(); break;
      case 5: passing(round); break;
      case 6: case 7: case 8: put(&common[p], shared + p * WORDS); break;
      default: put(&own[p], private + p * WORDS);
    }
    sleepMs(1);
  }
}
