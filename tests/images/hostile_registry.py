# SPDX-License-Identifier: Apache-2.0
"""Registries that misbehave: each way ends in a clear refusal in bounded time, or is overcome, and never in an image
that is not what its digest says."""
import base64
import contextlib
import json
import os
import random
import sys
import tarfile
import time

from support import Image, Store, check, equal, free_port, process, tar_of, wait_for_port

NOISE = random.Random(4).randbytes(400_000)
LAYER = tar_of([({"name": "noise"}, NOISE)], tarfile.USTAR_FORMAT)


@contextlib.contextmanager
def registry(scratch, way, image):
    state = f"{scratch}/{way}"
    os.makedirs(state)
    for name, blob in image.blobs.items():
        with open(f"{state}/{name}", "wb") as file:
            file.write(blob)
    with open(f"{state}/manifest", "wb") as file:
        file.write(image.blobs[image.manifest["digest"]])
    port = free_port()
    with process([sys.executable, os.path.join(os.path.dirname(os.path.abspath(__file__)), "servers.py"), "registry",
                  str(port), way, state]) as child:
        wait_for_port(port, child)
        yield f"localhost:{port}", state


def counts(state):
    try:
        with open(f"{state}/counts.json") as file:
            return json.load(file)
    except OSError:
        return {}


REFUSED = {
    "redirect_loop": "redirects",
    "redirect_to_file": "rotocol",
    "unauthorised_for_ever": "authentication required",
    "token_elsewhere": "not https",
    "token_with_line_end": "there is none in the answer",
    "huge_manifest": "more than",
    "deep_manifest": "nested",
    "endless_indexes": "nested deeper",
    "html": "",
    "wrong_blob": "",
    "blob_too_long": "longer than its manifest says",
    "wrong_range": "another place than asked",
    "unknown_status": "HTTP 418",
}


def case_refused_at_once(scratch):
    image = Image([LAYER])
    for way, says in REFUSED.items():
        store = Store(scratch, "home_" + way)
        with registry(scratch, way, image) as (host, state):
            start = time.monotonic()
            store.refused("pull", "--plain-http", f"{host}/a:1", says=says, timeout=60)
            check(time.monotonic() - start < 20, f"{way}: took {time.monotonic() - start:.0f} s")
            check(counts(state).get("asked", 0) < 10, f"{way}: asked {counts(state)} times")
            equal(way, store.images(), [])


def case_wrong_manifest_for_a_digest(scratch):
    image = Image([LAYER])
    store = Store(scratch)
    with registry(scratch, "wrong_manifest", image) as (host, _):
        store.refused("pull", "--plain-http", f"{host}/a@{image.manifest['digest']}", says="another content")


def case_broken_connections_are_resumed(scratch):
    image = Image([LAYER])
    for way in ("breaks_off", "truncated_chunks", "ignores_ranges"):
        store = Store(scratch, "home_" + way)
        with registry(scratch, way, image) as (host, state):
            store.run("pull", "--plain-http", f"{host}/a:1", timeout=60)
            check(counts(state)["ranges"] >= 2, f"{way}: {counts(state)}")
            store.sound()


def case_busy_registries_are_asked_again(scratch):
    store = Store(scratch)
    with registry(scratch, "busy_at_first", Image([LAYER])) as (host, _):
        store.run("pull", "--plain-http", f"{host}/a:1")
        store.sound()


def case_hopeless_ones_are_given_up(scratch):
    for way, says in (("breaks_for_ever", ""), ("blob_too_short", "ends early"), ("manifest_cut", "")):
        store = Store(scratch, "home_" + way)
        with registry(scratch, way, Image([LAYER])) as (host, state):
            start = time.monotonic()
            store.refused("pull", "--plain-http", "--retries", "2", f"{host}/a:1", says=says, timeout=60)
            check(time.monotonic() - start < 30, f"{way}: took {time.monotonic() - start:.0f} s")
            check(counts(state).get("layer", 0) <= 6, f"{way}: {counts(state)}")


def case_a_slow_drip_is_given_up(scratch):
    store = Store(scratch)
    with registry(scratch, "slow_drip", Image([LAYER])) as (host, _):
        start = time.monotonic()
        store.refused("pull", "--plain-http", "--retries", "0", "--stall-timeout", "3", f"{host}/a:1", timeout=60)
        check(time.monotonic() - start < 15, f"took {time.monotonic() - start:.0f} s")


def case_their_words_are_shown_harmless(scratch):
    image = Image([LAYER])
    store = Store(scratch)
    with registry(scratch, "none", image) as (host, state):
        os.unlink(f"{state}/{image.layers[0]['digest']}")
        said = store.refused("pull", "--plain-http", f"{host}/a:1", says="not found")
        check("\x1b" not in said and "blob" in said, said)


def case_identity_tokens_are_exchanged(scratch):
    """As `docker login` leaves them for registries that give refresh tokens instead of keeping passwords."""
    store = Store(scratch)
    with registry(scratch, "identity_token", Image([LAYER])) as (host, state):
        os.makedirs(f"{scratch}/user/.docker")

        def keep(token):
            login = {"auth": base64.b64encode(b"00000000-0000-0000-0000-000000000000:").decode(), "identitytoken": token}
            with open(f"{scratch}/user/.docker/config.json", "w") as file:
                json.dump({"auths": {host: login}}, file)

        keep("kept+by docker&co")
        store.run("pull", "-q", "--plain-http", f"{host}/a:1")
        equal("grants", counts(state)["grants"], 1)
        keep("another")
        store.refused("pull", "-q", "--plain-http", f"{host}/a:1", says="token")
