"""An asyncio server with its state in memory: "add NAME" is answered with "NAME COUNT"; work goes through a thread pool too."""
import asyncio
import collections

counts = collections.Counter()


def count(name: str) -> int:
    counts[name] += 1
    return counts[name]


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while line := await reader.readline():
        verb, name = line.decode().split()
        assert verb == "add"
        if len(counts) % 2:
            answer = await asyncio.to_thread(count, name)
        else:
            await asyncio.sleep(0.001)
            answer = count(name)
        writer.write(f"{name} {answer}\n".encode())
        await writer.drain()
    writer.close()


async def main() -> None:
    server = await asyncio.start_server(serve, "0.0.0.0", 7000)
    async with server:
        await server.serve_forever()


asyncio.run(main())
