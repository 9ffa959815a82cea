"""An SQLite database behind a port: "add CLIENT N" is one transaction of random changes, answered with N when it is committed;
"check CLIENT N" is answered with what the database says of itself. Arguments: journal mode, random seed."""
import random
import sqlite3
import sys

from lines import serve_lines

ACCOUNTS = 200
mode, seed = sys.argv[1:]
chance = random.Random(seed)
database = sqlite3.connect("/var/tmp/ledger.db", isolation_level=None)
assert database.execute(f"PRAGMA journal_mode = {mode}").fetchone()[0] == mode
database.execute("PRAGMA synchronous = FULL")
# Small, so that pages go to the file and come from it all the time.
database.execute("PRAGMA cache_size = 20")
database.execute("PRAGMA wal_autocheckpoint = 50")
database.executescript(
    """
    CREATE TABLE account (id INTEGER PRIMARY KEY, amount INTEGER NOT NULL);
    CREATE TABLE acknowledged (client TEXT, n INTEGER, note BLOB, PRIMARY KEY (client, n));
    CREATE INDEX by_note ON acknowledged (note);
    """
)
database.executemany("INSERT INTO account VALUES (?, 0)", ((i,) for i in range(ACCOUNTS)))


def transact(client: str, n: int) -> None:
    database.execute("BEGIN IMMEDIATE")
    note = chance.randbytes(chance.randrange(10, 3000))
    database.execute("INSERT INTO acknowledged VALUES (?, ?, ?)", (client, n, note))
    for _ in range(chance.randrange(1, 6)):
        amount = chance.randrange(-100, 100)
        for sign in (-1, 1):
            account = chance.randrange(ACCOUNTS)
            database.execute("UPDATE account SET amount = amount + ? WHERE id = ?", (sign * amount, account))
    if n % 7 == 0:
        database.execute("UPDATE acknowledged SET note = ? WHERE client = ? AND n = ?", (b"", client, n - 3))
    if n % 11 == 0:
        database.execute("SAVEPOINT vain")
        database.execute("DELETE FROM acknowledged")
        database.execute("ROLLBACK TO vain")
    database.execute("COMMIT")


def check(client: str) -> str:
    integrity = database.execute("PRAGMA integrity_check").fetchone()[0]
    total = database.execute("SELECT sum(amount) FROM account").fetchone()[0]
    rows = database.execute("SELECT count(*), max(n) FROM acknowledged WHERE client = ?", (client,)).fetchone()
    return f"{integrity} sum {total} rows {rows[0]} last {rows[1]}"


async def answer(line: str) -> str:
    verb, client, n = line.split()
    if verb != "add":
        return check(client)
    transact(client, int(n))
    return n


serve_lines(answer)
