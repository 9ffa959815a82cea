/** What happens when, in simulated milliseconds: a binary heap; things at the same instant keep their order. */
interface Item {
  at: number;
  order: number;
  run: () => void;
}

export class Agenda {
  now = 0;
  done = 0;
  #order = 0;
  readonly #heap: Item[] = [];

  after(delayMs: number, run: () => void): void {
    const heap = this.#heap;
    const item = { at: this.now + delayMs, order: this.#order++, run };
    let index = heap.length;
    while (index > 0) {
      const parent = (index - 1) >> 1;
      if (!earlier(item, heap[parent]!)) break;
      heap[index] = heap[parent]!;
      index = parent;
    }
    heap[index] = item;
  }

  runUntil(end: number): void {
    while (this.#heap.length > 0 && this.#heap[0]!.at <= end) {
      const item = this.#heap[0]!;
      this.#removeFirst();
      this.now = item.at;
      this.done++;
      item.run();
    }
    this.now = end;
  }

  #removeFirst(): void {
    const heap = this.#heap;
    const last = heap.pop()!;
    const size = heap.length;
    if (size === 0) return;
    let index = 0;
    for (;;) {
      let child = 2 * index + 1;
      if (child >= size) break;
      if (child + 1 < size && earlier(heap[child + 1]!, heap[child]!)) child++;
      if (!earlier(heap[child]!, last)) break;
      heap[index] = heap[child]!;
      index = child;
    }
    heap[index] = last;
  }
}

function earlier(a: Item, b: Item): boolean {
  return a.at < b.at || (a.at === b.at && a.order < b.order);
}
