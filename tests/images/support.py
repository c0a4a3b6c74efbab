# SPDX-License-Identifier: Apache-2.0
"""What the cases of tests/images share: running msb-image against a store of its own, images made by hand, servers."""
import contextlib
import gzip
import hashlib
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import tarfile
import tempfile
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PROGRAM = os.path.join(os.environ.get("MSB_BUILD", os.path.join(TOP, "build")), "libexec/msb/msb-image")

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"


class Failed(Exception):
    pass


class Skipped(Exception):
    pass


def check(condition, text):
    if not condition:
        raise Failed(text)


def equal(what, got, expected):
    check(got == expected, f"{what}: {got!r} instead of {expected!r}")


def need(program):
    if not shutil.which(program) and not os.path.exists("/usr/sbin/" + program):
        raise Skipped(f"{program} is not installed")


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def run(*words, env=None, stdin=b"", expect=0, timeout=120, cwd=None):
    """Runs a program of others; its standard output as bytes."""
    done = subprocess.run(words, input=stdin, capture_output=True, env=env, timeout=timeout, cwd=cwd)
    check(done.returncode == expect,
          f"{' '.join(words[:3])}: exit {done.returncode}: {done.stderr.decode(errors='replace')[-400:]}")
    return done.stdout


class Store:
    """An image store in a directory of its own."""

    def __init__(self, scratch, name="home"):
        self.home = os.path.join(scratch, name)
        self.env = {"PATH": os.environ["PATH"], "HOME": os.path.join(scratch, "user"), "MSB_HOME": self.home}

    def start(self, *words, **options):
        return subprocess.Popen([PROGRAM, *words], env=self.env, **options)

    def call(self, *words, stdin=b"", timeout=120):
        return subprocess.run([PROGRAM, *words], input=stdin, capture_output=True, env=self.env, timeout=timeout)

    def run(self, *words, stdin=b"", timeout=120):
        done = self.call(*words, stdin=stdin, timeout=timeout)
        check(done.returncode == 0, f"msb-image {' '.join(words[:2])}: exit {done.returncode}: {self.said(done)}")
        return done.stdout

    def refused(self, *words, stdin=b"", says="", timeout=120):
        """Must fail in the orderly way (exit 1, one line), saying `says`."""
        done = self.call(*words, stdin=stdin, timeout=timeout)
        said = self.said(done)
        check(done.returncode == 1, f"msb-image {' '.join(words[:2])}: exit {done.returncode} instead of 1: {said}")
        check(says in said, f"msb-image {' '.join(words[:2])}: said {said!r}, not {says!r}")
        self.sound()
        return said

    @staticmethod
    def said(done):
        return done.stderr.decode(errors="replace").strip()[-600:]

    def images(self):
        return json.loads(self.run("ls", "--json"))

    def record(self, reference):
        return json.loads(self.run("inspect", reference))[0]

    def sound(self):
        """Nothing half-made is visible: the catalog reads, all layers are what they are named, tmp/ is garbage only."""
        done = self.call("verify")
        check(done.returncode == 0, f"the store is damaged: {done.stdout.decode()} {self.said(done)}")
        for image in self.images():
            self.extents(image["manifest_digest"])

    def extents(self, manifest_digest):
        with open(f"{self.home}/images/manifests/{manifest_digest[7:]}.json") as file:
            extents = json.load(file)["root"]["extents"]
        for extent in extents:
            path = os.path.join(self.home, extent["path"])
            check(os.path.getsize(path) == extent["length"], f"{path} has another length than its image says")
        return [os.path.join(self.home, extent["path"]) for extent in extents]

    def root_disk(self, reference, path):
        """The disk that a sandbox sees, as one file."""
        with open(path, "wb") as out:
            for extent in self.extents(self.record(reference)["manifest_digest"]):
                with open(extent, "rb") as file:
                    shutil.copyfileobj(file, out, 1 << 20)
        return path


def tar_of(members, fmt=tarfile.PAX_FORMAT):
    """members: (TarInfo keywords, content). The stream ends with two zero blocks and no more padding."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=fmt, errors="surrogateescape") as tar:
        for fields, content in members:
            info = tarfile.TarInfo(fields["name"])
            for key, value in fields.items():
                setattr(info, key, value)
            info.size = fields.get("size", len(content))
            tar.addfile(info, io.BytesIO(content) if content else None)
        length = tar.offset
    return out.getvalue()[:length] + bytes(1024)


class Image:
    """An image made by hand: its blobs by digest, its manifest, its config."""

    def __init__(self, layers, compress=None, config=None):
        self.blobs = {}
        descriptors = []
        for tar in layers:
            blob = compress(tar) if compress else tar
            suffix = {gzip.GzipFile: ""}.get(compress, "")
            kind = OCI_LAYER + suffix
            if blob[:2] == b"\x1f\x8b":
                kind += "+gzip"
            elif blob[:4] == b"\x28\xb5\x2f\xfd":
                kind += "+zstd"
            descriptors.append(self.add(blob, kind))
        document = {"os": "linux", "architecture": "amd64", "config": {"Cmd": ["/bin/sh"]},
                    "rootfs": {"type": "layers", "diff_ids": [digest(tar) for tar in layers]}}
        document.update(config or {})
        self.config = self.add(json.dumps(document).encode(), OCI_CONFIG)
        self.layers = descriptors
        self.manifest = self.add(json.dumps({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": self.config,
                                             "layers": descriptors}).encode(), OCI_MANIFEST)

    def add(self, blob, media_type):
        self.blobs[digest(blob)] = blob
        return {"mediaType": media_type, "digest": digest(blob), "size": len(blob)}

    def index(self, name):
        entry = dict(self.manifest, platform={"os": "linux", "architecture": "amd64"})
        entry["annotations"] = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name.split(":")[-1]}
        return json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}).encode()

    def layout(self, path, name):
        """As an OCI layout directory."""
        os.makedirs(f"{path}/blobs/sha256")
        for key, blob in self.blobs.items():
            with open(f"{path}/blobs/sha256/{key[7:]}", "wb") as file:
                file.write(blob)
        for file_name, content in (("oci-layout", b'{"imageLayoutVersion":"1.0.0"}'), ("index.json", self.index(name))):
            with open(f"{path}/{file_name}", "wb") as file:
                file.write(content)
        return path

    def archive(self, name):
        """As an OCI archive."""
        members = [({"name": "blobs/sha256/" + key[7:]}, blob) for key, blob in self.blobs.items()]
        members += [({"name": "oci-layout"}, b'{"imageLayoutVersion":"1.0.0"}'), ({"name": "index.json"}, self.index(name))]
        return tar_of(members, tarfile.USTAR_FORMAT)

    def docker_archive(self, name):
        """As `docker save` made them for years: one directory for each layer."""
        tars = [self.blobs[layer["digest"]] for layer in self.layers]
        members = [({"name": f"{i}/layer.tar"}, tar) for i, tar in enumerate(tars)]
        config = self.config["digest"][7:] + ".json"
        manifest = [{"Config": config, "RepoTags": [name], "Layers": [f"{i}/layer.tar" for i in range(len(tars))]}]
        members += [({"name": config}, self.blobs[self.config["digest"]]),
                    ({"name": "manifest.json"}, json.dumps(manifest).encode())]
        return tar_of(members, tarfile.USTAR_FORMAT)


def zstd(data):
    return run("zstd", "-q", "-c", "-1", stdin=data)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def process(words, **options):
    """A server for the time of a block."""
    child = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options)
    try:
        yield child
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()


def wait_for_port(port, child):
    for _ in range(200):
        check(child.poll() is None, "the server ended at once")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise Failed("the server does not listen")


@contextlib.contextmanager
def docker_registry(scratch, tls=None, htpasswd=None):
    """Debian's registry on loopback. tls: (certificate, key); htpasswd: a file. Yields HOST:PORT."""
    need("docker-registry")
    port = free_port()
    config = {"version": 0.1, "log": {"level": "error"}, "http": {"addr": f"127.0.0.1:{port}"},
              "storage": {"filesystem": {"rootdirectory": f"{scratch}/registry"}, "delete": {"enabled": True}}}
    if tls:
        config["http"]["tls"] = {"certificate": tls[0], "key": tls[1]}
    if htpasswd:
        config["auth"] = {"htpasswd": {"realm": "test", "path": htpasswd}}
    path = f"{scratch}/registry-{port}.json"  # JSON is YAML
    with open(path, "w") as file:
        json.dump(config, file)
    with process(["docker-registry", "serve", path]) as child:
        wait_for_port(port, child)
        yield f"localhost:{port}"


def scratch_directory():
    return tempfile.TemporaryDirectory(prefix="msb-images-")
