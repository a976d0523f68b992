# SPDX-License-Identifier: Apache-2.0
"""The disk that a power cut leaves, made from the journal of the preloaded library (disk_shim.cpp).

The model, no kinder than POSIX:
  * What was written to a file before an fsync or fdatasync of it began is on disk once that has answered success.
  * A name (create, link, rename, unlink) is on disk once its *directory* was synced so. Syncing the file is not enough.
  * Of everything else any part may be there, in any order: per sector of 512 bytes the last synced contents or those of
    any later write, and a length or a name as it was at any time since.
  * What a *failed* sync was to sync may be lost for good, though a later sync of the file succeeds: the system may have
    marked the pages clean.
Shared memory ("-shm") is not kept: it is gone, or holds rubbish.
"""

import os
import random
import struct
from pathlib import Path

HEAD = struct.Struct("<IcBHqQqqQ")
MAGIC = 0x4C4A524D
SECTOR, PAGE = 512, 4096
MODES = ("none", "all", "sectors", "pages", "writes", "in order", "torn")


class Entry:
    __slots__ = ("what", "at", "handle", "offset", "length", "name", "data")

    def __init__(self, what, at, handle, offset, length, name, data):
        self.what, self.at, self.handle = what, at, handle
        self.offset, self.length, self.name, self.data = offset, length, name, data


def read_journal(path):
    """Every whole entry; the last one may be cut off by the death of the process. Times in seconds, monotonic."""
    entries, raw, at = [], memoryview(Path(path).read_bytes()), 0
    while at + HEAD.size <= len(raw):
        magic, what, _, name_size, nanoseconds, handle, offset, length, size = HEAD.unpack_from(raw, at)
        if magic != MAGIC:
            raise ValueError(f"{path}: no entry at byte {at}")
        end = at + HEAD.size + name_size + size
        if end > len(raw):
            break
        name = bytes(raw[at + HEAD.size:at + HEAD.size + name_size]).decode()
        entries.append(Entry(what.decode(), nanoseconds / 1e9, handle, offset, length, name, raw[end - size:end]))
        at = end
    return entries


class File:
    """One inode: what is on disk for certain, and what was done since."""

    def __init__(self, contents=b""):
        self.synced = bytearray(contents)
        self.now = bytearray(contents)
        self.pending = []  # (sequence, Entry)


def put(contents, offset, data):
    if offset > len(contents):
        contents.extend(bytes(offset - len(contents)))
    contents[offset:offset + len(data)] = data


def set_length(contents, length):
    if length < len(contents):
        del contents[length:]
    else:
        contents.extend(bytes(length - len(contents)))


def apply(contents, entry):
    if entry.what == "w":
        put(contents, entry.offset, entry.data)
    elif entry.what == "t":
        set_length(contents, entry.offset)
    else:  # fallocate only ever lengthens
        set_length(contents, max(len(contents), entry.offset + entry.length))


def apply_partly(contents, entry, unit, chosen):
    """The parts of a write, cut at multiples of `unit`, for which `chosen()` is true."""
    if entry.what != "w":
        if chosen():
            apply(contents, entry)
        return
    at, end = entry.offset, entry.offset + len(entry.data)
    while at < end:
        stop = min(end, (at // unit + 1) * unit)
        if chosen():
            put(contents, at, entry.data[at - entry.offset:stop - entry.offset])
        at = stop


class Disk:
    """Replays a journal upon the folder as it was before. `advance` goes on to an entry; `image` is the disk then."""

    def __init__(self, folder, base, journal, seed, lose_synced=0.0):
        """`folder` is where the program saw the files, `base` a copy from before. `lose_synced`: a saboteur, the share
        of synced writes that are lost all the same."""
        self.folder = str(folder)
        self.entries = journal
        self.random = random.Random(f"{seed} disk")
        self.lose_synced = lose_synced
        self.files = {str(Path(folder) / p.name): File(p.read_bytes()) for p in Path(base).iterdir() if p.is_file()}
        self.names = dict(self.files)  # as they are on disk for certain
        self.pending_names = []        # (sequence, path, File or None)
        self.handles, self.starts = {}, {}
        self.done = 0

    def advance(self, count):
        while self.done < min(count, len(self.entries)):
            self._take(self.entries[self.done])
            self.done += 1

    def _name(self, path, file):
        if file is None:
            self.files.pop(path, None)
        else:
            self.files[path] = file
        self.pending_names.append((self.done, path, file))

    def _take(self, entry):
        what = entry.what
        if what == "o":
            if entry.length == 1:
                self.handles[entry.handle] = None  # a directory
            else:
                if entry.offset == 1 or entry.name not in self.files:
                    if entry.offset != 1:
                        raise ValueError(f"{entry.name} was opened and nobody made it")
                    self._name(entry.name, File())
                self.handles[entry.handle] = self.files[entry.name]
        elif what in "wta":
            file = self.handles[entry.handle]
            apply(file.now, entry)
            file.pending.append((self.done, entry))
        elif what == "s":
            self.starts.setdefault(entry.handle, []).append(self.done)
        elif what == "e":
            self._synced(self.handles[entry.handle], self.starts[entry.handle].pop(0))
        elif what == "f":
            self._failed(self.handles[entry.handle])
        elif what in "lru":
            old, new = entry.name.split("\0")
            file = self.files.get(old)
            if what != "l":
                self._name(old, None)
            if what != "u":
                self._name(new, file)
        else:
            raise ValueError(f"the program used {entry.name}, which this model does not know")

    def _synced(self, file, start):
        if file is None:
            for sequence, path, to in self.pending_names:
                if sequence < start:
                    self._keep_name(self.names, path, to)
            self.pending_names = [entry for entry in self.pending_names if entry[0] >= start]
            return
        for sequence, entry in file.pending:
            if sequence < start and not (self.lose_synced and self.random.random() < self.lose_synced):
                apply(file.synced, entry)
        file.pending = [pair for pair in file.pending if pair[0] >= start]

    def _failed(self, file):
        """Each page made it or not, and nobody will try again."""
        share = self.random.choice([0.0, 0.0, 0.3, 0.7])
        for _, entry in file.pending:
            apply_partly(file.synced, entry, PAGE, lambda: self.random.random() < share)
        file.pending = []

    @staticmethod
    def _keep_name(names, path, file):
        if file is None:
            names.pop(path, None)
        else:
            names[path] = file

    def image(self, mode, seed):
        """Contents by file name of a disk that lost power after the entries so far."""
        chance = random.Random(f"{seed} {mode}")
        share = chance.choice([0.1, 0.5, 0.9])

        def some():
            return chance.random() < share
        last = max((pair[0] for file in set(self.files.values()) for pair in file.pending if pair[1].what == "w"), default=-1)
        cut = chance.randrange(self.done + 1) if mode == "in order" else self.done

        names = dict(self.names)
        for sequence, path, file in self.pending_names:
            if mode in ("all", "torn") or (mode == "in order" and sequence < cut) or \
                    (mode in ("sectors", "pages", "writes") and some()):
                self._keep_name(names, path, file)
        files = {}
        for path, file in names.items():
            if path.endswith("-shm"):
                continue
            contents = bytearray(file.synced)
            for sequence, entry in file.pending:
                if mode == "none":
                    break
                if mode == "all" or (mode == "torn" and sequence != last) or (mode == "in order" and sequence < cut) or \
                        (mode == "writes" and some()):
                    apply(contents, entry)
                elif mode in ("sectors", "pages"):
                    apply_partly(contents, entry, SECTOR if mode == "sectors" else PAGE, some)
                elif mode == "torn":
                    keep = chance.randrange(max(1, (len(entry.data) - 1) // SECTOR + 1))
                    front = chance.random() < 0.7  # a beginning, or an end without the beginning
                    count = iter(range(1 << 30))
                    apply_partly(contents, entry, SECTOR, lambda: (next(count) < keep) == front)
            files[os.path.basename(path)] = bytes(contents)
        if mode != "none" and chance.random() < 0.3:
            for name in [name for name in files if name.endswith("-wal")]:
                files[name[:-3] + "shm"] = chance.randbytes(32768)
        return files

    def check_against(self, folder):
        """The journal tells the whole story: replayed to its end it gives the real files, byte by byte."""
        real = {str(Path(self.folder) / p.name): p.read_bytes() for p in Path(folder).iterdir() if p.is_file()}
        mine = {path: bytes(file.now) for path, file in self.files.items()}
        complaints = []
        for path in sorted(set(real) | set(mine)):
            if not path.endswith("-shm") and real.get(path) != mine.get(path):
                complaints.append(f"the journal's {path} is not the real one: something was written past the shim")
        return complaints


def write_image(files, folder):
    os.makedirs(folder, mode=0o700)
    for name, contents in files.items():
        with open(os.path.join(folder, name), "wb") as out:
            out.write(contents)
        os.chmod(os.path.join(folder, name), 0o600)
