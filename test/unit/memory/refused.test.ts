/** Memory that is refused by name: test machines need not have the processor for it. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { AREA_FLAG } from "../../../src/resources/memory/area-flags.ts";
import type { Area } from "../../../src/resources/memory/layout.ts";
import { refuseAreas } from "../../../src/resources/memory/refused.ts";

const area = (flags: bigint, protection = 3): Area => ({
  start: 0x10000,
  end: 0x12000,
  protection,
  backing: { type: "anonymous" },
  flags: Number(flags),
});

/** Of key 1 to 15, as vm_flags has it. */
const key = (number: bigint) => number << 32n;

test("memory under a protection key is refused", () => {
  for (const number of [1n, 8n, 15n])
    assert.throws(() => refuseAreas([area(0n), area(key(number) | AREA_FLAG.locked)]), {
      code: "unprotectable-protection-keys",
      message: "The application has memory under a protection key (pkey_mprotect, 8 KiB)",
    });
});

test("memory that may only be run has a key by the kernel's own will", () => {
  refuseAreas([area(key(1n), 4)]);
});

test("everybody's key is none", () => {
  refuseAreas([area(0n), area(AREA_FLAG.locked | AREA_FLAG.sealed)]);
});

test("huge pages are refused where they are a file's", () => {
  const huge = { ...area(AREA_FLAG.hugetlb), start: 0x200000, end: 0x400000, huge: 0x200000 };
  const mounted = { type: "file", path: "/mnt/huge/a", offset: 0, shared: true } as const;
  const memfd = { type: "file", path: "/memfd:a (deleted)", offset: 0, shared: false } as const;
  const { huge: _, ...unknown } = huge;
  refuseAreas([huge, { ...huge, backing: { type: "shared", id: "00:11:5", offset: 0, path: "/memfd:a (deleted)" } }]);
  for (const [refused, what] of [
    [{ ...unknown, backing: mounted }, "of a mounted hugetlbfs"],
    [{ ...huge, backing: memfd }, "of a memfd, mapped private"],
  ] as const)
    assert.throws(() => refuseAreas([refused]), {
      code: "unprotectable-huge-pages",
      message: `The application has huge pages ${what} (2 MiB), which cannot be copied`,
    });
});
