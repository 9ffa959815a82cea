"""An asyncio server with its state in memory: "add NAME" is answered with "NAME COUNT"; work goes through a thread pool too."""
import asyncio
import collections

from lines import serve_lines

counts = collections.Counter()


def count(name: str) -> int:
    counts[name] += 1
    return counts[name]


async def answer(line: str) -> str:
    verb, name = line.split()
    assert verb == "add"
    if len(counts) % 2:
        return f"{name} {await asyncio.to_thread(count, name)}"
    await asyncio.sleep(0.001)
    return f"{name} {count(name)}"


serve_lines(answer)
