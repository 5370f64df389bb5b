"""Build the C extensions: their table, a hatchling hook, and `python orchestra/_build.py`."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent

# extension -> folder of its C sources, what Python sees of them, their umbrella header
EXTENSIONS = {
    "orchestra.io._native": ("io/c", "io.cdef.h", "io.h"),
    "orchestra.machine._native": ("machine/core", "core.cdef.h", "machine.h"),
}
FLAGS = [
    "-std=gnu11",
    "-O2",
    "-g",
    "-ffp-contract=off",  # float_fast.h counts on every rounding
    "-fno-math-errno",
    "-fno-strict-aliasing",
    "-fvisibility=hidden",
]
# ORCHESTRA_CFLAGS adds flags (CI: -Wall -Wextra -Werror, or the sanitizers).


def build(name: str, root: Path) -> Path:
    """Compile one extension in place below `root` and return the shared object's path."""
    from cffi import FFI  # only needed when building

    headers = Path(sysconfig.get_path("include"))
    if not (headers / "Python.h").is_file():
        raise SystemExit(f"no Python.h in {headers}: install them (Debian: python3-dev)")
    folder, cdef, header = EXTENSIONS[name]
    sources = root / folder
    extra = os.environ.get("ORCHESTRA_CFLAGS", "").split()
    links = [flag for flag in extra if flag.startswith("-fsanitize")]
    ffi = FFI()
    ffi.cdef((sources / cdef).read_text())
    ffi.set_source(
        name,
        f'#include "{header}"\n',
        sources=[str(path) for path in sorted(sources.rglob("*.c"))],
        include_dirs=[str(sources)],
        extra_compile_args=[*FLAGS, *extra],
        extra_link_args=["-pthread", *links],
    )
    suffix = ".pyd" if sys.platform == "win32" else ".abi3.so"
    with tempfile.TemporaryDirectory() as scratch:
        built = Path(ffi.compile(tmpdir=scratch, target=name.rsplit(".", 1)[1] + suffix))
        target = root.parent.joinpath(*name.split(".")).with_suffix(suffix)
        staged = target.with_name(f".{target.name}.{os.getpid()}")
        shutil.copy2(built, staged)
        staged.replace(target)
    return target


BuildHook: Any = object
if __name__ != "__main__":  # hatchling is there only when it builds a wheel
    BuildHook = import_module("hatchling.builders.hooks.plugin.interface").BuildHookInterface


class Extensions(BuildHook):  # type: ignore[misc]
    """Compile every extension and tag the wheel for this platform and the stable ABI."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        """Hatchling calls this before it collects the wheel's files."""
        if self.target_name != "wheel":
            return
        from packaging.tags import sys_tags  # hatchling brings it

        for name in EXTENSIONS:
            build(name, Path(self.root) / "orchestra")
        platform = next(iter(sys_tags())).platform
        build_data["pure_python"] = False
        build_data["tag"] = f"cp311-abi3-{platform}"


if __name__ == "__main__":
    wanted = sys.argv[1:]
    for extension in EXTENSIONS:
        if not wanted or any(word in extension for word in wanted):
            print(build(extension, HERE))  # noqa: T201 - a build tool speaks on stdout
