#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A registry that misbehaves in one named way, and a recording HTTP proxy. Loopback only.

usage: servers.py registry PORT WAY STATE-DIR      serves the image in STATE-DIR (blobs by digest, "manifest")
       servers.py proxy PORT LOG
"""
import hashlib
import http.client
import http.server
import json
import os
import sys
import threading
import time
import urllib.parse

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"


class Registry(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    way = ""
    state = ""
    counts = {}
    counts_lock = threading.Lock()

    def log_message(self, *_):
        pass

    def count(self, what):
        """How often `what` happened before."""
        with self.counts_lock:
            self.counts[what] = self.counts.get(what, 0) + 1
            with open(f"{self.state}/counts.json.tmp", "w") as file:
                json.dump(self.counts, file)
            os.replace(f"{self.state}/counts.json.tmp", f"{self.state}/counts.json")
            return self.counts[what] - 1

    def answer(self, status, body=b"", headers=()):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        way = self.way
        if way == "redirect_loop":
            return self.answer(307, headers=[("Location", self.path)])
        if way == "redirect_to_file":
            return self.answer(307, headers=[("Location", "file:///etc/passwd")])
        if way == "unauthorised_for_ever":
            self.count("asked")
            realm = f"http://{self.headers['Host']}/token"
            if self.path.startswith("/token"):
                return self.answer(200, b'{"token":"abc"}')
            return self.answer(401, headers=[("WWW-Authenticate", f'Bearer realm="{realm}",service="s"')])
        if way == "identity_token" and self.headers.get("Authorization") != "Bearer granted":
            realm = f'Bearer realm="http://{self.headers["Host"]}/token",service="s",scope="repository:a:pull"'
            return self.answer(401, headers=[("WWW-Authenticate", realm)])
        if way == "token_elsewhere":
            return self.answer(401, headers=[("WWW-Authenticate", 'Bearer realm="ftp://example/token"')])
        if way == "token_with_line_end":
            if self.path.startswith("/token"):
                return self.answer(200, b'{"token":"abc\\r\\nX-Injected: 1"}')
            return self.answer(401, headers=[("WWW-Authenticate", f'Bearer realm="http://{self.headers["Host"]}/token"')])
        if way == "busy_at_first" and self.count("asked") < 2:
            return self.answer(503 if self.counts["asked"] == 1 else 429, headers=[("Retry-After", "0")])
        if "/manifests/" in self.path:
            return self.manifest()
        if "/blobs/" in self.path:
            return self.blob(self.path.rsplit("/", 1)[1])
        return self.answer(200, b"{}")

    def do_POST(self):
        """The OAuth2 form of a token service: takes one refresh token, in the body only."""
        fields = urllib.parse.parse_qs(self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode())
        wanted = {"grant_type": ["refresh_token"], "refresh_token": ["kept+by docker&co"], "service": ["s"],
                  "scope": ["repository:a:pull"]}
        if self.path != "/token" or any(fields.get(key) != value for key, value in wanted.items()):
            return self.answer(400, b'{"error":"invalid_grant"}')
        self.count("grants")
        return self.answer(200, b'{"access_token":"granted"}')

    def manifest(self):
        with open(f"{self.state}/manifest", "rb") as file:
            body = file.read()
        kind = MANIFEST_TYPE
        if self.way == "huge_manifest":
            body = b'{"schemaVersion":2,"layers":["' + b"x" * (5 << 20) + b'"]}'
        elif self.way == "deep_manifest":
            body = b'{"schemaVersion":2,"config":' + b"[" * 100000 + b"]" * 100000 + b"}"
        elif self.way == "endless_indexes":
            # Every index names another one, made so that the digest of each is right.
            body, kind = self.chain(), INDEX_TYPE
        elif self.way == "wrong_manifest" and "sha256:" in self.path:
            body += b" "
        elif self.way == "manifest_cut":
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[:20])
            self.close_connection = True
            return None
        elif self.way == "html":
            body, kind = b"<html>please log in to the hotel's network</html>", "text/html"
        return self.answer(200, body, [("Content-Type", kind)])

    def chain(self):
        body = b'{"schemaVersion":2,"manifests":[]}'
        documents = {}
        for _ in range(20):
            name = "sha256:" + hashlib.sha256(body).hexdigest()
            documents[name] = body
            body = json.dumps({"schemaVersion": 2, "manifests": [
                {"digest": name, "size": len(body), "mediaType": INDEX_TYPE,
                 "platform": {"os": "linux", "architecture": "amd64"}}]}).encode()
        return documents.get(self.path.rsplit("/", 1)[1], body)

    def blob(self, name):
        try:
            with open(f"{self.state}/{name}", "rb") as file:
                body = file.read()
        except OSError:
            return self.answer(404, b'{"errors":[{"code":"BLOB_UNKNOWN","message":"no \\u001b[31mblob"}]}')
        if len(body) < 1000:  # the config: only layers are played with
            return self.answer(200, body)
        self.count("layer")
        start = 0
        asked = self.headers.get("Range", "")
        if asked.startswith("bytes="):
            start = int(asked[6:].split("-")[0])
            self.count("ranges")
        if self.way == "wrong_blob":
            body = body[:-1] + bytes([body[-1] ^ 1])
        elif self.way == "blob_too_long":
            body += b"more"
        elif self.way == "blob_too_short":
            body = body[:-1]
        elif self.way == "ignores_ranges":
            start = 0
        status, headers = 200, []
        if start > 0:
            status = 206
            first = start + 1 if self.way == "wrong_range" else start
            headers = [("Content-Range", f"bytes {first}-{len(body) - 1}/{len(body)}")]
        rest = body[start:]
        if self.way == "unknown_status":
            return self.answer(418)
        if self.way in ("breaks_off", "ignores_ranges", "wrong_range", "breaks_for_ever", "truncated_chunks"):
            # A part, then the connection is gone.
            broken = self.counts["layer"]
            piece = max(len(body) // 4, 1)
            send = rest[:piece]
            if self.way == "breaks_for_ever":
                send = rest[:0] if start else rest[:piece]
            elif self.way == "ignores_ranges":
                send = rest[:piece * (broken + 1)]
            self.send_response(status)
            for header in headers:
                self.send_header(*header)
            if self.way == "truncated_chunks":
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                self.wfile.write(f"{len(rest):x}\r\n".encode() + send)
            else:
                self.send_header("Content-Length", str(len(rest)))
                self.end_headers()
                self.wfile.write(send)
            self.close_connection = True
            return None
        if self.way == "slow_drip":
            self.send_response(200)
            self.send_header("Content-Length", str(len(rest)))
            self.end_headers()
            for byte in rest:
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
                time.sleep(0.5)
            return None
        if self.way == "slow":
            self.send_response(status)
            for header in headers:
                self.send_header(*header)
            self.send_header("Content-Length", str(len(rest)))
            self.end_headers()
            for at in range(0, len(rest), 65536):
                self.wfile.write(rest[at:at + 65536])
                time.sleep(0.01)
            return None
        return self.answer(status, rest, headers)


class Proxy(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    log = ""

    def log_message(self, *_):
        pass

    def do_GET(self):
        with open(self.log, "a") as file:
            file.write(self.path + "\n")
        url = urllib.parse.urlsplit(self.path)
        upstream = http.client.HTTPConnection(url.netloc)
        headers = {name: value for name, value in self.headers.items() if not name.lower().startswith("proxy")}
        upstream.request("GET", url.path + ("?" + url.query if url.query else ""), headers=headers)
        answer = upstream.getresponse()
        body = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request, client_address):
        pass  # clients that give up are what is tested


def main():
    kind, port = sys.argv[1], int(sys.argv[2])
    if kind == "proxy":
        Proxy.log = sys.argv[3]
        handler = Proxy
    else:
        Registry.way, Registry.state = sys.argv[3], sys.argv[4]
        handler = Registry
    Server(("127.0.0.1", port), handler).serve_forever()


if __name__ == "__main__":
    main()
