#!/usr/bin/env python3
"""What a single flipped byte does to databases of SQLite, LMDB, redb and Ashlar that hold the same entries.

Each database is made and closed. Then, so many times, one random byte of a copy of its main file (never of a block that is all
zeros) has random bits flipped, and the copy is read whole by one process and checked by another. What the reader gives is compared with
what was written.

    pip install lmdb
    cargo build --release --manifest-path tests/scripts/flips-of-others/redb/Cargo.toml --target-dir target/flips
    cargo build --release -p ashlar-tools
    python3 tests/scripts/flips-of-others/flips.py --ashlar target/release/ashlar --redb target/flips/release/flips-redb --dir /var/tmp

Not part of any build. Every database is opened as its users open it, with its defaults: SQLite has a checksum extension and LMDB none.
"""

import argparse
import collections
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import tempfile

TIMEOUT = 60
BLOCK = 4096


def entries():
    """Small values, some of a few pages, a few large."""
    rng = random.Random(1)
    out = {}
    for i in range(4000):
        out[b"user%08d" % (i * 7919 % 100000)] = rng.randbytes(rng.randrange(20, 200))
    for i in range(60):
        out[b"page%04d" % i] = rng.randbytes(rng.randrange(2000, 9000))
    for i in range(4):
        out[b"blob%04d" % i] = rng.randbytes(150_000)
    return dict(sorted(out.items()))


def lines(pairs):
    return b"".join(b"%s %s\n" % (k.hex().encode(), v.hex().encode()) for k, v in pairs)


class Sqlite:
    name = f"SQLite {sqlite3.sqlite_version}"
    check_name = "PRAGMA integrity_check"

    def file(self, at):
        return at

    def make(self, at, pairs):
        db = sqlite3.connect(at)
        db.execute("CREATE TABLE kv (k BLOB PRIMARY KEY, v BLOB) WITHOUT ROWID")
        db.executemany("INSERT INTO kv VALUES (?, ?)", pairs.items())
        db.commit()
        db.close()

    def read(self, at):
        return lambda: lines(sqlite3.connect(at).execute("SELECT k, v FROM kv ORDER BY k"))

    def check(self, at):
        def checked():
            if sqlite3.connect(at).execute("PRAGMA integrity_check").fetchall() != [("ok",)]:
                raise ValueError("integrity_check found damage")
            return b""

        return checked


class Lmdb:
    check_name = "none"

    @property
    def name(self):
        import lmdb

        return "LMDB %d.%d.%d" % lmdb.version()

    def file(self, at):
        return at

    def make(self, at, pairs):
        import lmdb

        env = lmdb.open(at, subdir=False, map_size=64 << 20)
        with env.begin(write=True) as txn:
            for k, v in pairs.items():
                txn.put(k, v)
        env.close()

    def read(self, at):
        def read():
            import lmdb

            with lmdb.open(at, subdir=False, readonly=True, lock=False).begin() as txn:
                return lines(txn.cursor())

        return read

    def check(self, at):
        return None


class Redb:
    check_name = "check_integrity"

    def __init__(self, program):
        self.program = program
        with open(os.path.join(os.path.dirname(__file__), "redb", "Cargo.lock"), encoding="utf-8") as lock:
            text = lock.read()
        self.name = "redb " + text.split('name = "redb"\nversion = "')[1].split('"')[0]

    def file(self, at):
        return at

    def make(self, at, pairs):
        with tempfile.NamedTemporaryFile() as listed:
            listed.write(lines(pairs.items()))
            listed.flush()
            subprocess.run([self.program, "make", at, listed.name], check=True)

    def read(self, at):
        return [self.program, "read", at]

    def check(self, at):
        return [self.program, "check", at]


class Ashlar:
    check_name = "ashlar verify"

    def __init__(self, program):
        self.program = program
        version = subprocess.run([program, "--version"], check=True, capture_output=True, text=True).stdout.split()
        self.name = "Ashlar " + version[-1]

    def file(self, at):
        return os.path.join(at, "data")

    def make(self, at, pairs):
        dump = b"VERSION=3\nformat=bytevalue\ntype=btree\nHEADER=END\n"
        dump += b"".join(b" %s\n %s\n" % (k.hex().encode(), v.hex().encode()) for k, v in pairs.items())
        subprocess.run([self.program, "load", at, "-k", "kv"], input=dump + b"DATA=END\n", check=True, capture_output=True)

    def read(self, at):
        return [self.program, "dump", at, "-k", "kv"]

    def check(self, at):
        return [self.program, "verify", at]


def run(command):
    """Output and how it ended: ok, error, crash (a signal or a panic) or hang. A function runs in a process of its own, too."""
    if callable(command):
        return run_forked(command)
    try:
        done = subprocess.run(command, capture_output=True, timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        return b"", "hang"
    crashed = done.returncode < 0 or done.returncode == 101 or b"panicked at" in done.stderr
    return done.stdout, "crash" if crashed else "ok" if done.returncode == 0 else "error"


def run_forked(function):
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(ours)
        signal.alarm(TIMEOUT)
        try:
            with os.fdopen(theirs, "wb") as out:
                out.write(function())
        except BaseException:
            os._exit(1)
        os._exit(0)
    os.close(theirs)
    with os.fdopen(ours, "rb") as out:
        found = out.read()
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        return b"", "hang" if os.WTERMSIG(status) == signal.SIGALRM else "crash"
    return found, "ok" if os.WEXITSTATUS(status) == 0 else "error"


def copy(source, target):
    if os.path.isdir(source):
        shutil.copytree(source, target)
    else:
        shutil.copyfile(source, target)


def remove(path):
    if os.path.isdir(path):
        shutil.rmtree(path)
    elif os.path.exists(path):
        os.remove(path)


def flips(engine, where, pairs, count, seed):
    whole = os.path.join(where, "whole")
    engine.make(whole, pairs)
    with open(engine.file(whole), "rb") as file:
        data = file.read()
    blocks = [b for b in range(0, len(data), BLOCK) if any(data[b : b + BLOCK])]
    expected, ended = run(engine.read(whole))
    assert ended == "ok" and expected, (engine.name, ended)
    assert engine.check(whole) is None or run(engine.check(whole))[1] == "ok", engine.name
    rng = random.Random(seed)
    counts = collections.Counter()
    for _ in range(count):
        at = rng.choice(blocks) + rng.randrange(BLOCK)
        at = min(at, len(data) - 1)
        bits = rng.randrange(1, 256)
        damaged = os.path.join(where, "damaged")
        outcomes = []
        for command in (engine.read, engine.check):
            # Each gets a copy of its own: some engines mend what they open.
            copy(whole, damaged)
            with open(engine.file(damaged), "r+b") as file:
                file.seek(at)
                file.write(bytes([data[at] ^ bits]))
            outcomes.append(run(command(damaged)) if command(damaged) else (b"", "none"))
            remove(damaged)
            remove(damaged + "-lock")
        (found, read), (_, check) = outcomes
        if "crash" in (read, check) or "hang" in (read, check):
            counts["crash or hang"] += 1
        elif read == "error":
            counts["reading: an error"] += 1
        elif found == expected:
            counts["right; check finds it" if check == "error" else "right; check finds nothing"] += 1
        else:
            counts["wrong; check finds it" if check == "error" else "wrong; check finds nothing"] += 1
    remove(whole)
    remove(whole + "-lock")
    return len(blocks) * BLOCK, counts


COLUMNS = [
    "right; check finds nothing",
    "right; check finds it",
    "reading: an error",
    "wrong; check finds it",
    "wrong; check finds nothing",
    "crash or hang",
]


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--ashlar", required=True, help="the program ashlar")
    args.add_argument("--redb", required=True, help="the program flips-redb")
    args.add_argument("--dir", default=None, help="where databases are made: a file system with direct I/O")
    args.add_argument("--flips", type=int, default=1000)
    args.add_argument("--seed", type=int, default=1)
    args = args.parse_args()
    pairs = entries()
    print("| engine | bytes | " + " | ".join(COLUMNS) + " | its check |")
    print("| --- | ---: |" + " ---: |" * len(COLUMNS) + " --- |")
    for engine in (Sqlite(), Lmdb(), Redb(args.redb), Ashlar(args.ashlar)):
        with tempfile.TemporaryDirectory(dir=args.dir) as where:
            size, counts = flips(engine, where, pairs, args.flips, args.seed)
        cells = " | ".join(str(counts[column]) for column in COLUMNS)
        print(f"| {engine.name} | {size} | {cells} | {engine.check_name} |", flush=True)


if __name__ == "__main__":
    main()
