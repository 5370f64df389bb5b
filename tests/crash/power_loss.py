"""What a power failure can leave of work that is durable: `python -m tests.crash.power_loss`.

With recorder.c preloaded, the work is recorded once: every change of a name, and every fsync with
what the file held then. After each change these states of the disk are made, and checked:

- strict: only names in folders that were synced, only bytes of files that were (POSIX);
- ordered: all names so far, as journals keep them, but of files not synced nothing or zeros;
- mixed: of each folder the names at some moment since it was synced, the moments chosen at random.
"""

import ctypes
import os
import random
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

from tests.crash.scenarios import SCENARIOS, digests

RECORDER = ctypes.CDLL(None)
MIXED = 3  # states of that kind after each change


@dataclass
class File:
    """Bytes on the disk: a file that holds a copy, or nothing."""

    kept: Path | None = None


@dataclass
class Folder:
    """Names in memory; and, oldest first, those that the disk may have."""

    names: dict[str, "File | Folder"] = field(default_factory=dict)
    possible: list[dict[str, "File | Folder"]] = field(default_factory=lambda: [{}])

    def changed(self):
        """Be told of a change of names."""
        self.possible.append(dict(self.names))

    def synced(self):
        """Only what is now."""
        self.possible = [dict(self.names)]


class Disk:
    """A tree of files as it changes, and as it may be found."""

    def __init__(self, root):
        self.root, self.top = root, self.scanned(root)
        self.made = {}  # by inode

    def scanned(self, folder):
        """Take a tree for synced."""
        found = Folder()
        for path in folder.iterdir():
            found.names[path.name] = self.scanned(path) if path.is_dir() else File(path)
        found.synced()
        return found

    def find(self, path):
        """The folder a path is in, and its name there."""
        *folders, name = Path(path).relative_to(self.root).parts
        at = self.top
        for part in folders:
            at = at.names[part]
        return at, name

    def apply(self, what, inode, path, second, kept):
        """Do what was recorded."""
        if what == "sync" and path.endswith(" (deleted)"):  # it has other names
            self.made[inode].kept = kept / second
            return
        if what == "sync":
            self.sync(path, kept / second)
            return
        folder, name = self.find(path)
        if what in ("create", "mkdir"):
            folder.names[name] = self.made[inode] = File() if what == "create" else Folder()
        elif what == "link":
            target, new = self.find(second)
            target.names[new] = folder.names[name]
            target.changed()
            return
        elif what == "exchange":
            target, new = self.find(second)
            target.names[new], folder.names[name] = folder.names[name], target.names[new]
            assert target is folder
        elif what == "rename":
            target, new = self.find(second)
            target.names[new] = folder.names.pop(name)
            if target is not folder:
                target.changed()
        else:
            del folder.names[name]
        folder.changed()

    def sync(self, path, kept):
        """What is there will stay."""
        if Path(path) == self.root:
            self.top.synced()
            return
        folder, name = self.find(path)
        thing = folder.names[name]
        if isinstance(thing, Folder):
            thing.synced()
        else:
            thing.kept = kept

    def states(self, chance):
        """Choose for each folder which of its possible names are found."""
        yield lambda folder: folder.possible[0]
        yield lambda folder: folder.names
        for _ in range(MIXED):
            yield lambda folder: chance.choice(folder.possible)

    def make(self, choose, target, chance):
        """Write a state into a new folder; returns what tells it from others."""
        return self.write(self.top, choose, target, chance)

    def write(self, folder, choose, target, chance):
        """Write a folder."""
        target.mkdir()
        told = []
        for name, thing in sorted(choose(folder).items()):
            if isinstance(thing, Folder):
                told.append((name, self.write(thing, choose, target / name, chance)))
            elif thing.kept is not None:
                shutil.copyfile(thing.kept, target / name)
                told.append((name, str(thing.kept)))
            else:
                length = chance.choice((0, 8192))
                (target / name).write_bytes(bytes(length))
                told.append((name, length))
        return tuple(told)


def record(scenario, root, scratch, *, durable):
    """Do the work in a child, and return what it changed, in order."""
    (scratch / "kept").mkdir()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            RECORDER.crash_watch(os.fsencode(root))
            RECORDER.crash_log(os.fsencode(scratch / "log"), os.fsencode(scratch / "kept"))
            RECORDER.crash_arm(0, 0)
            scenario.work(root, durable, lambda name: RECORDER.crash_mark(name.encode()))
            RECORDER.crash_mark(b"end")
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    lines = (scratch / "log").read_text().splitlines()
    return [line.split("\t") for line in lines]


def main(name, scratch, durable):
    """Record, replay, check."""
    scenario = SCENARIOS[name]
    root, base = scratch / "root", scratch / "base"
    base.mkdir()
    scenario.prepare(base)
    digests()
    shutil.copytree(base, root)
    changes = record(scenario, root, scratch, durable=durable)
    shutil.rmtree(root)
    shutil.copytree(base, root)  # as it was
    disk, chance = Disk(root), random.Random(name)
    promised, seen = set(), set()
    for number, (what, inode, path, second) in enumerate(changes):
        if what == "mark":
            promised.add(path)
        else:
            disk.apply(what, inode, path, second, scratch / "kept")
        for kind, choose in enumerate(disk.states(chance)):
            target = scratch / f"found-{number}-{kind}"
            key = disk.make(choose, target, chance), frozenset(promised)
            if key not in seen:
                seen.add(key)
                try:
                    scenario.check(target, frozenset(promised))
                except BaseException as error:
                    error.add_note(f"{name}: after {what} {path} {second}, kind {kind}: {target}")
                    raise
            shutil.rmtree(target)
    print(len(seen))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3] == "durable")
