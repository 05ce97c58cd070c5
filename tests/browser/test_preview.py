"""The preview of a message does not make the browser connect to another host."""

from __future__ import annotations

import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from django_turbosmtp.admin.preview import build_preview

#: HTML that refers to another host; ``{host}`` listens for connections.
ELEMENTS = {
    "iframe": '<iframe src="{host}/a"></iframe>',
    "iframe in capitals": '<IFRAME\nSRC="{host}/a">',
    "iframe, slash": '<iframe/src="{host}/a">',
    "lazy iframe": '<iframe loading="lazy" src="{host}/a"></iframe>',
    "iframe with a document": "<iframe srcdoc='<img src=\"{host}/a\">'></iframe>",
    "frameset": '<frameset cols="*,*"><frame src="{host}/a"><frame src="{host}/b">',
    "frame": '<frame src="{host}/a">',
    "object": '<object data="{host}/a"></object>',
    "embed": '<embed src="{host}/a">',
    "applet": '<applet code="a" codebase="{host}/"></applet>',
    "portal": '<portal src="{host}/a"></portal>',
    "fenced frame": '<fencedframe src="{host}/a"></fencedframe>',
    "preconnect": '<link rel="preconnect" href="{host}">',
    "prefetch": '<link rel="prefetch" href="{host}/a">',
    "preload": '<link rel="preload" as="image" href="{host}/a">',
    "manifest": '<link rel="manifest" href="{host}/a">',
    "icon": '<link rel="icon" href="{host}/a">',
    "style sheet": '<link rel="stylesheet" href="{host}/a">',
    "import": '<style>@import url("{host}/a");</style>',
    "font": "<style>@font-face{{font-family:x;src:url({host}/a)}}"
    "*{{font-family:x}}</style>x",
    "background": '<p style="background: url({host}/a)">x</p>',
    "picture": '<img src="{host}/a">',
    "source set": '<img srcset="{host}/a 1x, {host}/b 2x">',
    "base": '<base href="{host}/"><img src="a"><iframe src="b"></iframe>',
    "refresh": '<meta http-equiv="refresh" content="0; url={host}/a">',
    "script": '<script src="{host}/a"></script>',
    "module": '<script type="module" src="{host}/a"></script>',
    "speculation": '<script type="speculationrules">'
    '{{"prefetch":[{{"urls":["{host}/a"]}}]}}</script>',
    "video": '<video src="{host}/a" poster="{host}/b" autoplay></video>',
    "audio": '<audio src="{host}/a" autoplay></audio>',
    "svg": '<svg><image href="{host}/a"/><use href="{host}/b#c"/></svg>',
    "ping": '<a ping="{host}/a" href="#">x</a>',
    "input": '<input type="image" src="{host}/a">',
    "body": '<body background="{host}/a">',
    "MathML": '<math><mi href="{host}/a">x</mi></math>',
}


class Listener:
    """Counts connections, even those without a request."""

    def __enter__(self):
        self.count = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.settimeout(0.1)
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()
        self.host = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        return self

    def _accept(self):
        while not self._ends.is_set():
            try:
                connection, _ = self._socket.accept()
            except TimeoutError:
                continue
            self.count += 1
            connection.close()

    def __exit__(self, *_):
        self._ends.set()
        self._thread.join()
        self._socket.close()


@pytest.fixture
def serve():
    """Serve a page like the admin's, with a preview in a frame."""
    pages = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            response = pages.get(self.path)
            self.send_response(200 if response else 404)
            for name, value in response.headers.items() if response else ():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(response.content if response else b"")

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield pages, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


FRAMES = [label for label in ELEMENTS if "frame" in label]
OTHERS = [label for label in ELEMENTS if "frame" not in label]
GROUPS = [[label] for label in FRAMES] + [OTHERS[0::3], OTHERS[1::3], OTHERS[2::3]]


@pytest.mark.parametrize("labels", GROUPS, ids=lambda labels: labels[0])
@pytest.mark.parametrize("scheme", ["light"])
@pytest.mark.parametrize("size", ["desktop"])
@pytest.mark.parametrize("alone", [True, False])
def test_no_connection(page, serve, labels, size, scheme, alone):
    pages, origin = serve
    with Listener() as listener:
        html = "".join(ELEMENTS[label] for label in labels)
        html = html.format(host=listener.host)
        if "<frameset" not in html:
            html = f"<!doctype html><p>Hello</p>{html}"
        pages["/preview"] = build_preview(html, pictures=False)
        outer = build_preview("", pictures=False)
        outer.content = b'<!doctype html><iframe sandbox src="/preview"></iframe>'
        del outer["Content-Security-Policy"]
        pages["/"] = outer
        page.goto(f"{origin}/preview" if alone else origin)
        page.wait_for_load_state("networkidle")
        time.sleep(0.2)
        assert listener.count == 0


@pytest.mark.parametrize("scheme", ["light"])
@pytest.mark.parametrize("size", ["desktop"])
def test_the_listener_notices(page, serve, size, scheme):
    """Check that the tests above can fail."""
    pages, origin = serve
    with Listener() as listener:
        html = f'<img src="{listener.host}/a">'
        pages["/preview"] = build_preview(html, pictures=True)
        page.goto(f"{origin}/preview")
        page.wait_for_load_state("networkidle")
        assert listener.count > 0
