#!/usr/bin/env python3
"""Debian's package index as entries for a key-value store: real names, real texts, real lengths.

Reads stanzas, as `apt-cache dumpavail` prints them (which is run if stdin is a terminal), and writes an entry for each: the key is
the package's name, a slash and its version, the value is the stanza. Of several with one key the last stays.

    apt-cache dumpavail | debian_packages.py                   pairs of lines for `ashlar load -T`
    apt-cache dumpavail | debian_packages.py --dump packages   a dump of database "packages", as db_dump prints it, in order of keys
"""

import argparse
import re
import subprocess
import sys


def stanzas(stream):
    """The stanzas, without the empty line behind each."""
    lines = []
    for line in stream:
        if line.strip():
            lines.append(line)
        elif lines:
            yield b"".join(lines)
            lines = []
    if lines:
        yield b"".join(lines)


def key_of(stanza):
    """Name, slash, version; None for what is no package."""
    fields = {}
    for line in stanza.split(b"\n"):
        name, colon, value = line.partition(b":")
        if colon and name in (b"Package", b"Version"):
            fields.setdefault(name, value.strip())
    if len(fields) < 2:
        return None
    return fields[b"Package"] + b"/" + fields[b"Version"]


NOT_PLAIN = re.compile(rb"[^\x20-\x5b\x5d-\x7e]")


def as_text(data):
    """A line for `load -T`: what is not printable, and the backslash, in hex."""
    return NOT_PLAIN.sub(lambda match: b"\\%02x" % match[0][0], data)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dump", metavar="NAME", help="write a dump of a database of this name, not pairs of lines")
    parser.add_argument("--limit", type=int, metavar="N", help="stop after this many stanzas")
    args = parser.parse_args()
    stream = sys.stdin.buffer
    if sys.stdin.isatty():
        stream = subprocess.Popen(["apt-cache", "dumpavail"], stdout=subprocess.PIPE).stdout
    entries = {}
    for number, stanza in enumerate(stanzas(stream)):
        if number == args.limit:
            break
        key = key_of(stanza)
        if key is not None:
            entries[key] = stanza
    out = sys.stdout.buffer
    if args.dump:
        out.write(b"VERSION=3\nformat=bytevalue\ndatabase=%s\ntype=btree\nHEADER=END\n" % args.dump.encode())
        for key in sorted(entries):
            out.write(b" %s\n %s\n" % (key.hex().encode(), entries[key].hex().encode()))
        out.write(b"DATA=END\n")
    else:
        for key, stanza in entries.items():
            out.write(as_text(key) + b"\n" + as_text(stanza) + b"\n")


if __name__ == "__main__":
    main()
