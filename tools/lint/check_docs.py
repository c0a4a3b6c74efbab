#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Every path that a document names in `backquotes` or links to must exist. Prints one line for each that does not."""
import pathlib
import re
import subprocess
import sys

QUOTED = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
FENCE = re.compile(r"^```.*?^```", re.M | re.S)
# A quoted word is taken for a path of ours when it starts with a top-level entry of the tree and a slash.
GLOB = re.compile(r"[*{}<>…\[\]]|\.\.\.|NNNN|\bx\.(h|cc)\b|/x_")


def main() -> int:
    top = pathlib.Path(__file__).resolve().parents[2]
    tracked = subprocess.run(["git", "-C", str(top), "ls-files", "-co", "--exclude-standard"], check=True,
                             capture_output=True, text=True).stdout.splitlines()
    tops = {name.split("/")[0] for name in tracked if "/" in name}
    bad = 0
    for name in tracked:
        if not name.endswith(".md"):
            continue
        document = top / name
        text = document.read_text(encoding="utf-8")
        candidates = set()
        for word in QUOTED.findall(text):
            word = word.split()[0].removeprefix("./").rstrip(",.;:") if word.split() else ""
            first = word.split("/")[0]
            if "/" in word and first in tops and not GLOB.search(word):
                candidates.add((word, top / word))
        for target in LINK.findall(FENCE.sub("", text)):
            if "://" in target or target.startswith("mailto:"):
                continue
            candidates.add((target, document.parent / target))
        for word, path in sorted(candidates, key=lambda pair: pair[0]):
            if path.exists() or (path.parent.exists() and any(path.parent.glob(path.name + ".*"))):
                continue
            print(f"{name}: names {word}, which does not exist")
            bad += 1
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
