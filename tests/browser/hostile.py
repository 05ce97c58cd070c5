"""A hostile message. All of its requests would go to ``outside``."""

from __future__ import annotations

import struct
import zlib


def picture(width=160, height=60):
    """Return a PNG of a single colour."""

    def chunk(name, data):
        body = name + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = (b"\0" + b"\x1f\x8b\x4c" * width) * height
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def build_hostile_html(outside):
    """Return a body that would run scripts, load files or open other pages."""
    return f"""<!doctype html><html><head>
        <meta http-equiv="refresh" content="0; url={outside}/refresh">
        <base href="{outside}/base/">
        <link rel="stylesheet" href="{outside}/style.css">
        <link rel="preconnect" href="{outside}">
        <script src="{outside}/script.js"></script>
        <style>@import url({outside}/import.css);
        p {{ background: url({outside}/background.png); font-family: sans-serif }}
        </style></head>
        <body onload="alert('onload')"><script>alert("script")</script>
        <h1>Your order is on its way</h1>
        <p>Thank you, Jane. <a href="{outside}/link" target="_top">Track it</a>
        or <a href="{outside}/plain">Here</a></p>
        <img id="inline" src="cid:logo@example.com" alt="logo">
        <img src="{outside}/remote.png" onerror="alert('onerror')" alt="remote">
        <iframe src="{outside}/frame"></iframe>
        <object data="{outside}/object"></object>
        <video src="{outside}/video" poster="{outside}/poster"></video>
        <form action="{outside}/form" method="post"><button id="go">Win</button></form>
        <svg><script>alert("svg")</script><image href="{outside}/svg.png"/></svg>
        <p>{"A long paragraph that has to wrap on a phone. " * 8}</p></body></html>"""
