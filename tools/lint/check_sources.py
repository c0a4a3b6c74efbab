#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Small rules for every source: licence line, no tabs or trailing blanks, header guards, a corpus for each fuzz target."""
import pathlib
import subprocess
import sys

CODE = (".cc", ".h", ".S", ".py", ".sh", ".cmake")


def main() -> int:
    top = pathlib.Path(__file__).resolve().parents[2]
    names = subprocess.run(["git", "-C", str(top), "ls-files", "-co", "--exclude-standard"], check=True,
                           capture_output=True, text=True).stdout.splitlines()
    bad = []
    for name in names:
        path = top / name
        if path.is_symlink() or not path.is_file() or "/corpus/" in name or "/golden/" in name:
            continue
        head = path.open("rb").read(2)
        is_code = name.endswith(CODE) or name.endswith("CMakeLists.txt") or head == b"#!"
        if not is_code:
            continue
        text = path.read_text(encoding="utf-8")
        if "SPDX-License-Identifier: Apache-2.0" not in "\n".join(text.splitlines()[:5]):
            bad.append(f"{name}: the licence line is missing")
        if name.endswith(".h") and "#pragma once" not in text:
            bad.append(f"{name}: #pragma once is missing")
        for number, line in enumerate(text.splitlines(), 1):
            if line != line.rstrip():
                bad.append(f"{name}:{number}: trailing blank")
            if "\t" in line and name.endswith((".cc", ".h", ".py")):
                bad.append(f"{name}:{number}: tab")
        if name.endswith("_fuzz.cc"):
            corpus = path.parent / "corpus" / path.name.removesuffix("_fuzz.cc")
            if not corpus.is_dir() or not any(corpus.iterdir()):
                bad.append(f"{name}: no corpus in {corpus.relative_to(top)}")
    print("\n".join(bad), end="\n" if bad else "")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
