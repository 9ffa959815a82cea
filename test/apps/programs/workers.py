"""Forked workers that accept on one socket and count in memory they share, under one lock. "add NAME-INDEX" -> "NAME-INDEX COUNT"."""
import multiprocessing
import socket
import threading
from multiprocessing import shared_memory

WORKERS = 6
SLOTS = 64


def talk(connection: socket.socket, memory: memoryview, lock) -> None:
    file = connection.makefile("rw")
    for line in file:
        name = line.split()[1]
        slot = 1 + int(name.rsplit("-", 1)[1])
        with lock:
            memory[slot] += 1
            memory[0] += 1
            answer = memory[slot] if memory[0] == sum(memory[1:]) else "the sum does not fit"
        file.write(f"{name} {answer}\n")
        file.flush()


def work(server: socket.socket, shared: shared_memory.SharedMemory, lock) -> None:
    memory = shared.buf.cast("Q")
    while True:
        connection, _ = server.accept()
        threading.Thread(target=talk, args=(connection, memory, lock), daemon=True).start()


if __name__ == "__main__":
    fork = multiprocessing.get_context("fork")
    shared = shared_memory.SharedMemory(create=True, size=8 * (1 + SLOTS))
    lock = fork.Lock()
    server = socket.create_server(("0.0.0.0", 7000), backlog=100)
    workers = [fork.Process(target=work, args=(server, shared, lock)) for _ in range(WORKERS)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
