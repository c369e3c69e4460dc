#!/usr/bin/env python3
"""Rebuilds every .wasm of this folder from its sources, byte for byte.

    examples/build.py                 rebuild all, in place
    examples/build.py sqlite echo     rebuild these only
    examples/build.py --check         rebuild all elsewhere; exit 1 unless each equals the committed file
    examples/build.py --native DIR    the same C with `gcc -O2` into DIR (for speed comparisons)

The compiler is PyPI's `ziglang` at one exact version (clang, lld and wasi-libc in one wheel); the SQLite amalgamation is
the one inside the crate `libsqlite3-sys` at one exact version, used unmodified and checked by hash. Both are fetched
once into $GLEANER_BUILD_CACHE (default: the user's cache folder), never into the repository. Needs python3 and pip;
sqlite also needs cargo.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
CACHE = Path(
    os.environ.get("GLEANER_BUILD_CACHE")
    or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gleaner-examples"
)

ZIG_VERSION = "0.17.1"
SQLITE_CRATE = "0.40.0"  # SQLite 3.54.1
SQLITE_SHA256 = "0c657666d819f261cc4007526ad57e1669de9949df7a8ea847aa284a2bf0ee52"

# Fixed, so that no path of the machine that builds can reach the module. One optimisation level for all.
WASM_FLAGS = ["-target", "wasm32-wasi", "-O2", "-s", "-std=gnu17", "-Wall", "-Wextra", "-Werror", "-ffp-contract=off"]
NATIVE_FLAGS = ["-O2", "-std=gnu17", "-ffp-contract=off"]

SQLITE_DEFINES = [
    "SQLITE_THREADSAFE=0",
    "SQLITE_OMIT_LOAD_EXTENSION",
    "SQLITE_OMIT_WAL",
    "SQLITE_OMIT_SHARED_CACHE",
    "SQLITE_OMIT_DEPRECATED",
    "SQLITE_TEMP_STORE=3",
    "SQLITE_DQS=0",
    "SQLITE_DEFAULT_MEMSTATUS=0",
    "SQLITE_ENABLE_MATH_FUNCTIONS",
    "SQLITE_ENABLE_FTS5",
    "SQLITE_ENABLE_RTREE",
    "SQLITE_ENABLE_STAT4",
    "SQLITE_USE_URI=1",
    "LONGDOUBLE_TYPE=double",
]


def guest(name):
    return {"out": f"guests/{name}.wasm", "sources": [f"guests/{name}.c"]}


PROGRAMS = {
    name: guest(name)
    for name in "noop echo env exit trap spin recurse bomb flood write tree clock escape".split()
} | {
    "path-tracer": {"out": "path-tracer/path-tracer.wasm", "sources": ["path-tracer/path-tracer.c"], "native": True},
    "climate": {"out": "climate/climate.wasm", "sources": ["climate/climate.c"], "native": True},
    "integer": {"out": "kernels/integer.wasm", "sources": ["kernels/integer.c"], "native": True},
    "sqlite": {"out": "sqlite/sqlite.wasm", "sources": ["sqlite/shell.c"], "sqlite": True},
}


def run(*command, **more):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, **more)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\nfailed:\n{done.stdout}{done.stderr}")
    return done.stdout


def sha256(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def zig():
    """The pinned compiler, fetched once."""
    home = CACHE / f"ziglang-{ZIG_VERSION}"
    program = home / "ziglang" / ("zig.exe" if os.name == "nt" else "zig")
    if not program.exists():
        with tempfile.TemporaryDirectory() as folder:
            run(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, f"ziglang=={ZIG_VERSION}")
            (wheel,) = Path(folder).glob("ziglang-*.whl")
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(home)
        program.chmod(0o755)
    return program


def sqlite():
    """The folder with the unmodified amalgamation, fetched once by cargo and checked by hash."""
    with tempfile.TemporaryDirectory() as folder:
        manifest = Path(folder) / "Cargo.toml"
        manifest.write_text(
            '[package]\nname = "fetch"\nversion = "0.0.0"\nedition = "2021"\n'
            '[lib]\npath = "lib.rs"\n'
            f'[dependencies]\nlibsqlite3-sys = "={SQLITE_CRATE}"\n'
        )
        (Path(folder) / "lib.rs").touch()
        found = json.loads(run("cargo", "metadata", "--format-version=1", "--manifest-path", manifest, cwd=folder))
    (crate,) = [p for p in found["packages"] if p["name"] == "libsqlite3-sys"]
    sources = Path(crate["manifest_path"]).parent / "sqlite3"
    if sha256(sources / "sqlite3.c") != SQLITE_SHA256:
        sys.exit(f"{sources / 'sqlite3.c'} is not the file we pin ({SQLITE_SHA256})")
    return sources


def build(program, out):
    """Compiles one program to `out`. Runs in HERE with relative paths, so that no absolute one is compiled in."""
    env = os.environ | {"ZIG_GLOBAL_CACHE_DIR": str(CACHE / "zig"), "ZIG_LOCAL_CACHE_DIR": str(CACHE / "zig")}
    command = [zig(), "cc", *WASM_FLAGS]
    sources = list(program["sources"])
    if program.get("sqlite"):
        upstream = sqlite()
        command += [f"-D{d}" for d in SQLITE_DEFINES]
        command += ["-isystem", upstream, f"-ffile-prefix-map={upstream}=sqlite3"]
        # Upstream's code is not held to our warnings.
        command += ["-Wno-error", "-w"]
        sources += [upstream / "sqlite3.c"]
    run(*command, *sources, "-o", out, "-lm", cwd=HERE, env=env)
    Path(out).chmod(0o644)


def check(names):
    bad = 0
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            fresh = Path(folder) / f"{name}.wasm"
            build(PROGRAMS[name], fresh)
            committed = HERE / PROGRAMS[name]["out"]
            same = committed.exists() and fresh.read_bytes() == committed.read_bytes()
            bad += not same
            print(f"{'same' if same else 'DIFFERS':8} {sha256(fresh)[:16]} {PROGRAMS[name]['out']}")
    print(f"{len(names) - bad} passed, {bad} failed")
    return 1 if bad else 0


def native(names, folder):
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name in names:
        if PROGRAMS[name].get("native"):
            run("gcc", *NATIVE_FLAGS, *PROGRAMS[name]["sources"], "-o", Path(folder).resolve() / name, "-lm", cwd=HERE)
            print(Path(folder) / name)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(PROGRAMS))
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--native", metavar="DIR")
    args = parser.parse_args()
    names = args.names or list(PROGRAMS)
    for name in names:
        if name not in PROGRAMS:
            parser.error(f"no program named {name}")
    if args.native:
        return native(names, args.native)
    if args.check:
        return check(names)
    for name in names:
        out = HERE / PROGRAMS[name]["out"]
        build(PROGRAMS[name], out)
        print(f"{out.stat().st_size:>9} {sha256(out)[:16]} {PROGRAMS[name]['out']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
