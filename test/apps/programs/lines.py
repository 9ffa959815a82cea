"""Serves lines to many clients at once: each line is answered with one, in order."""
import asyncio
from collections.abc import Awaitable, Callable


def serve_lines(answer: Callable[[str], Awaitable[str]]) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(f"{await answer(line.decode())}\n".encode())
            await writer.drain()
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(serve, "0.0.0.0", 7000)
        async with server:
            await server.serve_forever()

    asyncio.run(main())
