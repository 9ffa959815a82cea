/** The steps from one layout to the next, against a model that looks at every page by itself. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  type Area,
  type Backing,
  layoutSteps,
  parseLayout,
  trackableRanges,
} from "../../../src/resources/memory/layout.ts";

const PAGE = 4096;
const PAGES = 40;
const BASE = 0x100000;

interface Page {
  identity: string;
  protection: number;
}

/** What a page is: two pages of the same identity hold the same memory. */
function identityOf(backing: Backing, start: number, page: number): string {
  switch (backing.type) {
    case "file":
      return `file ${backing.path} ${backing.shared} ${backing.offset + page - start}`;
    case "shared":
      return `shared ${backing.id} ${backing.offset + page - start}`;
    case "kernel":
      return `kernel ${backing.name}`;
    default:
      return "anonymous";
  }
}

function pagesOf(areas: Area[]): Map<number, Page> {
  const pages = new Map<number, Page>();
  for (const { start, end, protection, backing } of areas)
    for (let at = start; at < end; at += PAGE) {
      assert.ok(!pages.has(at), "areas overlap");
      pages.set(at, { identity: identityOf(backing, start, at), protection });
    }
  return pages;
}

const backing = fc.oneof(
  fc.constant<Backing>({ type: "anonymous" }),
  fc.constant<Backing>({ type: "stack" }),
  fc.record({
    type: fc.constant("file" as const),
    path: fc.constantFrom("/a", "/b"),
    offset: fc.integer({ min: 0, max: 3 }).map((n) => n * PAGE),
    shared: fc.boolean(),
  }),
  fc.record({
    type: fc.constant("shared" as const),
    id: fc.constantFrom("1", "2"),
    path: fc.constant("/memfd:x (deleted)"),
    offset: fc.integer({ min: 0, max: 3 }).map((n) => n * PAGE),
  }),
);

/** Areas one behind the other, with holes. */
const layout = fc
  .array(
    fc.record({
      gap: fc.integer({ min: 0, max: 3 }),
      pages: fc.integer({ min: 1, max: 6 }),
      protection: fc.constantFrom(0, 1, 3),
      backing,
    }),
    { maxLength: 8 },
  )
  .map((parts) => {
    const areas: Area[] = [];
    let at = BASE;
    for (const { gap, pages, protection, backing } of parts) {
      const start = at + gap * PAGE;
      const end = start + pages * PAGE;
      if (end > BASE + PAGES * PAGE) break;
      areas.push({ start, end, protection, backing });
      at = end;
    }
    return areas;
  });

const ranges = fc.array(
  fc
    .tuple(fc.integer({ min: 1, max: PAGES }), fc.integer({ min: 1, max: 8 }))
    .map(([first, pages]): [number, number] => [BASE + first * PAGE, BASE + (first + pages) * PAGE]),
  { maxLength: 2 },
);

test("layoutSteps makes the new layout and keeps exactly the pages that are the same memory", () => {
  fc.assert(
    fc.property(layout, layout, ranges, (from, to, fresh) => {
      const before = pagesOf(from);
      const wanted = pagesOf(to);
      const pages = new Map([...before].map(([at, page]) => [at, { ...page, kept: true }]));
      for (const step of layoutSteps(from, to, fresh)) {
        if (step.step === "map") {
          const { area } = step;
          for (let at = area.start; at < area.end; at += PAGE) {
            assert.ok(!pages.has(at), "maps over what is there");
            pages.set(at, {
              identity: identityOf(area.backing, area.start, at),
              protection: area.protection,
              kept: false,
            });
          }
        } else
          for (let at = step.start; at < step.end; at += PAGE) {
            const page = pages.get(at);
            assert.ok(page, "unmaps or protects what is not there");
            if (step.step === "unmap") pages.delete(at);
            else page.protection = step.protection;
          }
      }
      assert.deepEqual([...pages.keys()].sort(), [...wanted.keys()].sort());
      for (const [at, page] of pages) {
        const { identity, protection } = wanted.get(at)!;
        assert.equal(page.identity, identity);
        assert.equal(page.protection, protection);
        const isFresh = fresh.some(([start, end]) => start <= at && at < end);
        assert.equal(page.kept, !isFresh && before.get(at)?.identity === identity);
      }
    }),
    { numRuns: 500 },
  );
});

test("layoutSteps of a layout and itself is nothing", () => {
  fc.assert(fc.property(layout, (areas) => assert.deepEqual(layoutSteps(areas, areas), [])));
});

test("trackableRanges covers every area that can be watched and none that cannot", () => {
  fc.assert(
    fc.property(layout, (areas) => {
      const found = trackableRanges(areas);
      for (const area of areas) {
        const covers = found.some(([start, end]) => start <= area.start && area.end <= end);
        const touches = found.some(([start, end]) => start < area.end && area.start < end);
        const watchable = !(area.backing.type === "file" && area.backing.shared);
        assert.equal(covers, watchable);
        assert.equal(touches, watchable);
      }
    }),
  );
});

test("parseLayout knows what is behind each line of /proc/PID/maps", () => {
  const areas = parseLayout(`00400000-00401000 r-xp 00000000 08:01 12 /usr/bin/a\\012b
00500000-00600000 rw-p 00000000 00:00 0 [heap]
7f0000000000-7f0000001000 rw-s 00002000 00:01 34 /memfd:name (deleted)
7f0000001000-7f0000002000 rw-s 00000000 00:01 35 /dev/zero (deleted)
7f0000002000-7f0000003000 r--s 00001000 08:01 36 /etc/file
7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0 [stack]
7ffc00100000-7ffc00101000 r-xp 00000000 00:00 0 [vdso]
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0 [vsyscall]
`);
  assert.deepEqual(
    areas.map(({ backing, heap }) => [backing, heap]),
    [
      [{ type: "file", path: "/usr/bin/a\nb", offset: 0, shared: false }, undefined],
      [{ type: "anonymous" }, true],
      [{ type: "shared", id: "00:01:34", offset: 0x2000, path: "/memfd:name (deleted)" }, undefined],
      [{ type: "shared", id: "00:01:35", offset: 0, path: "/dev/zero (deleted)" }, undefined],
      [{ type: "file", path: "/etc/file", offset: 0x1000, shared: true }, undefined],
      [{ type: "stack" }, undefined],
      [{ type: "kernel", name: "[vdso]" }, undefined],
    ],
  );
});
