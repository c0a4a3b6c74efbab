# SPDX-License-Identifier: Apache-2.0
"""Pulls from Debian's registry on loopback: plain, TLS with a root of its own, passwords in every place they are kept."""
import base64
import crypt
import gzip
import json
import os
import stat

from archives import SECOND, SMALL
from support import (OCI_INDEX, Image, Store, check, docker_registry, equal, need, process, free_port, run,
                     wait_for_port, zstd)

USER, PASSWORD = "alice", "s3cret:word"


def push(image, scratch, host, name, *options, label="layout"):
    path = image.layout(f"{scratch}/{label}", "x:1")
    run("skopeo", "copy", "-q", *options, f"oci:{path}:1", f"docker://{host}/{name}")
    return image


def certificate(scratch):
    """A root of our own and a certificate of it for localhost."""
    need("openssl")
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
        "-keyout", f"{scratch}/key.pem", "-out", f"{scratch}/cert.pem", "-subj", "/CN=localhost",
        "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1")
    return f"{scratch}/cert.pem", f"{scratch}/key.pem"


def password_file(scratch):
    path = f"{scratch}/htpasswd"
    with open(path, "w") as file:
        file.write(f"{USER}:{crypt.crypt(PASSWORD, crypt.mksalt(crypt.METHOD_BLOWFISH, rounds=32))}\n")
    return path


def case_plain_only_when_named(scratch):
    need("skopeo")
    with docker_registry(scratch) as host:
        image = push(Image([SMALL, SECOND], lambda tar: gzip.compress(tar, mtime=0)), scratch, host, "team/app:1",
                     "--dest-tls-verify=false")
        store = Store(scratch)
        store.refused("pull", f"{host}/team/app:1", says="--plain-http")
        store.run("pull", "--plain-http", f"{host}/team/app:1")
        record = store.record(f"{host}/team/app:1")
        equal("config", record["config_digest"], image.config["digest"])
        store.sound()
        again = json.loads(store.run("pull", "--plain-http", "--json", f"{host}/team/app:1"))
        equal("fetched again", again[0]["fetched"], False)
        # By digest, and from a configuration file instead of a flag.
        other = Store(scratch, "other")
        os.makedirs(other.home)
        with open(f"{other.home}/registries.json", "w") as file:
            json.dump({"registries": {host: {"plain_http": True}}}, file)
        other.run("pull", f"{host}/team/app@{record['manifest_digest']}")
        equal("by digest", other.images()[0]["manifest_digest"], record["manifest_digest"])
        other.refused("pull", f"{host}/team/none:1", says="not found")
        other.refused("pull", "--policy", "never", f"{host}/team/app:1", says="policy is never")


def case_zstd_layers_and_shared_ones(scratch):
    need("skopeo")
    with docker_registry(scratch) as host:
        push(Image([SMALL, SECOND], zstd), scratch, host, "z:1", "--dest-tls-verify=false", "--preserve-digests")
        push(Image([SMALL]), scratch, host, "s:1", "--dest-tls-verify=false", label="shared")
        store = Store(scratch)
        store.run("pull", "--plain-http", f"{host}/z:1", f"{host}/s:1")
        equal("layers", len(os.listdir(f"{store.home}/images/layers")), 4)  # two layers, each with its record
        store.sound()


def case_tls_with_a_root_of_its_own(scratch):
    need("skopeo")
    cert, key = certificate(scratch)
    with docker_registry(scratch, tls=(cert, key)) as host:
        push(Image([SMALL]), scratch, host, "a:1", "--dest-tls-verify=false")
        store = Store(scratch)
        store.refused("pull", f"{host}/a:1", says="certificate")
        store.run("pull", "--ca-file", cert, f"{host}/a:1")
        os.makedirs(f"{scratch}/third")
        third = Store(scratch, "third")
        with open(f"{third.home}/registries.json", "w") as file:
            json.dump({"registries": {host: {"ca_file": cert}}}, file)
        third.run("pull", f"{host}/a:1")


def case_passwords(scratch):
    need("skopeo")
    with docker_registry(scratch, htpasswd=password_file(scratch)) as host:
        push(Image([SMALL]), scratch, host, "a:1", "--dest-tls-verify=false", "--dest-creds", f"{USER}:{PASSWORD}")
        pull = ["pull", "--plain-http", f"{host}/a:1"]
        auth = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()

        anonymous = Store(scratch, "anonymous")
        anonymous.refused(*pull, says="msb registry login")

        own = Store(scratch, "own")
        own.refused("login", "--plain-http", "-u", USER, "--password-stdin", host, stdin=b"wrong", says="HTTP 401")
        check(not os.path.exists(f"{own.home}/registry-auth.json"), "a wrong password was kept")
        own.run("login", "--plain-http", "-u", USER, "--password-stdin", host, stdin=PASSWORD.encode() + b"\n")
        equal("mode of the file", stat.S_IMODE(os.stat(f"{own.home}/registry-auth.json").st_mode), 0o600)
        equal("registries", own.run("registries").decode().split(), [host, USER])
        own.run(*pull)
        own.run("logout", host)
        own.run("rm", f"{host}/a:1")
        own.refused(*pull, says="msb registry login")

        docker = Store(scratch, "docker")
        os.makedirs(f"{docker.env['HOME']}/.docker")
        config = f"{docker.env['HOME']}/.docker/config.json"
        with open(config, "w") as file:
            json.dump({"auths": {host: {"auth": auth}}}, file)
        docker.run(*pull)
        os.unlink(config)

        podman = Store(scratch, "podman")
        path = f"{scratch}/auth.json"
        with open(path, "w") as file:
            json.dump({"auths": {f"{host}/a": {"auth": auth}}}, file)
        podman.env["REGISTRY_AUTH_FILE"] = path
        podman.run(*pull)

        helper = Store(scratch, "helper")
        os.makedirs(f"{scratch}/bin")
        program = f"{scratch}/bin/docker-credential-test"
        with open(program, "w") as file:
            file.write("#!/bin/sh\nread -r server\n[ \"$1 $server\" = \"get " + host + "\" ] || exit 1\n"
                       f"echo '{{\"Username\":\"{USER}\",\"Secret\":\"{PASSWORD}\"}}'\n")
        os.chmod(program, 0o755)
        with open(config, "w") as file:
            json.dump({"credHelpers": {host: "test"}}, file)
        helper.env["PATH"] = f"{scratch}/bin:{os.environ['PATH']}"
        helper.run(*pull)
        with open(config, "w") as file:
            json.dump({"auths": {host: {}}, "credsStore": "test"}, file)
        helper.run("rm", f"{host}/a:1")
        helper.run(*pull)


def case_platforms(scratch):
    need("skopeo")
    arm = Image([SECOND], config={"architecture": "arm64"})
    amd = Image([SMALL])
    both = Image([SMALL])
    both.blobs.update(arm.blobs)
    entries = [dict(image.manifest, platform={"os": "linux", "architecture": name})
               for image, name in ((amd, "amd64"), (arm, "arm64"))]
    index = both.add(json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode(), OCI_INDEX)
    both.manifest = index
    with docker_registry(scratch) as host:
        path = both.layout(f"{scratch}/layout", "x:1")
        run("skopeo", "copy", "-q", "--all", "--preserve-digests", "--dest-tls-verify=false", f"oci:{path}:1", f"docker://{host}/m:1")
        store = Store(scratch)
        store.run("pull", "--plain-http", f"{host}/m:1")
        equal("host's", store.record(f"{host}/m:1")["manifest_digest"], amd.manifest["digest"])
        store.run("pull", "--plain-http", "--platform", "linux/arm64", f"{host}/m:1")
        equal("arm64", store.record(f"{host}/m:1")["manifest_digest"], arm.manifest["digest"])
        store.refused("pull", "--plain-http", "--platform", "linux/riscv64", f"{host}/m:1",
                      says="there are: linux/amd64, linux/arm64")


def case_mirrors_and_proxies(scratch):
    need("skopeo")
    with docker_registry(scratch) as host:
        push(Image([SMALL]), scratch, host, "library/busy:1", "--dest-tls-verify=false")
        store = Store(scratch)
        os.makedirs(store.home)
        dead = f"localhost:{free_port()}"
        with open(f"{store.home}/registries.json", "w") as file:
            json.dump({"registries": {"docker.io": {"mirrors": [dead, host]}, dead: {"plain_http": True},
                                      host: {"plain_http": True}}}, file)
        store.run("pull", "busy:1", timeout=180)
        equal("name", store.images()[0]["references"], ["docker.io/library/busy:1"])
        # A proxy from the environment: one that records what it is asked for.
        port = free_port()
        log = f"{scratch}/proxy.log"
        with process(["python3", os.path.join(os.path.dirname(__file__), "servers.py"), "proxy", str(port), log]) as child:
            wait_for_port(port, child)
            proxied = Store(scratch, "proxied")
            proxied.env["http_proxy"] = f"http://127.0.0.1:{port}"
            proxied.env["no_proxy"] = ""
            proxied.run("pull", "--plain-http", f"{host}/library/busy:1")
            with open(log) as file:
                check(f"http://{host}/v2/library/busy/manifests/1" in file.read(), "the proxy was not asked")


def case_no_password_on_the_command_line(scratch):
    """The password goes by standard input only: an argument that would take it does not exist."""
    store = Store(scratch)
    done = store.call("login", "--password", PASSWORD, "localhost:1")
    equal("exit", done.returncode, 2)
    check("unknown option" in store.said(done), store.said(done))
