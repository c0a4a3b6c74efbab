# SPDX-License-Identifier: Apache-2.0
"""A real terminal for tests: a program in a window of tmux, typed at and looked at."""
import os
import pathlib
import shlex
import subprocess
import tempfile
import time


class Terminal:
    """One window of a tmux server of its own that reads no configuration."""

    def __init__(self, *argv, env, columns=100, rows=30):
        self.folder = tempfile.TemporaryDirectory(prefix="msb-tmux-")
        self.socket = pathlib.Path(self.folder.name, "socket")
        command = " ".join(shlex.quote(str(word)) for word in argv)
        self._env = {**env, "LC_ALL": "C.UTF-8"}
        self._env.pop("TMUX", None)
        self._tmux("-f", "/dev/null", "new-session", "-d", "-x", columns, "-y", rows, "exec " + command)

    def _tmux(self, *words):
        done = subprocess.run(["tmux", "-u", "-S", self.socket, *map(str, words)], env=self._env, capture_output=True, timeout=60,
                              stdin=subprocess.DEVNULL, check=False)
        if done.returncode != 0:
            raise OSError(f"tmux {words[0]}: {done.stderr.decode().strip()}")
        return done.stdout.decode()

    def type(self, text):
        """The keys of `text`, as they are."""
        self._tmux("send-keys", "-l", "--", text)

    def key(self, *names):
        """Keys by tmux's names: Tab, Enter, C-c."""
        self._tmux("send-keys", *names)

    def line(self, text):
        self.type(text)
        self.key("Enter")

    def paste(self, path):
        """The bytes of a file, as a terminal pastes them, nothing replaced."""
        self._tmux("load-buffer", path)
        self._tmux("paste-buffer", "-r", "-d")

    def resize(self, columns, rows):
        self._tmux("resize-window", "-x", columns, "-y", rows)

    def screen(self):
        """What is on it, blank ends of lines and of the whole cut off."""
        return "\n".join(line.rstrip() for line in self._tmux("capture-pane", "-p").split("\n")).rstrip()

    def until(self, condition, seconds=30):
        """Waits until `condition`, a text or a predicate of the screen, holds; returns the screen."""
        holds = condition if callable(condition) else lambda screen: condition in screen
        deadline = time.monotonic() + seconds
        while True:
            screen = self.screen()
            if holds(screen):
                return screen
            if time.monotonic() > deadline:
                raise TimeoutError(f"the screen never showed it ({condition if not callable(condition) else 'predicate'}):\n{screen}")
            time.sleep(0.05)

    def close(self):
        try:
            self._tmux("kill-server")
        except OSError:
            pass  # its last program has ended, and it with that
        self.folder.cleanup()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def environment(**extra):
    """This one's without what would change how a shell greets or a program draws."""
    env = {key: value for key, value in os.environ.items() if key not in ("PROMPT_COMMAND", "PS1", "ENV", "BASH_ENV", "NO_COLOR")}
    return {**env, **extra}
