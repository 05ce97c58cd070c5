"""The sandbox's JSON API."""

from __future__ import annotations

import base64
import hashlib
import json

import pytest

JSON = {"Content_Type": "application/json"}


def test_messages(sandbox, client):
    client.send(subject="first")
    client.send(
        subject="s\u00e9cond",
        content="text",
        html_content="<p>html",
        bcc="b@x.com",
        reference_id="ref-1",
        X_campaign_ID="spring",
        attachments=[
            {
                "content": base64.b64encode(b"abc").decode(),
                "name": "a.txt",
                "type": "text/plain",
            }
        ],
    )
    listed = client.get("/sandbox/messages").json
    assert (listed["count"], listed["total_accepted"]) == (2, 2)
    assert [m["subject"] for m in listed["results"]] == ["s\u00e9cond", "first"]
    assert len(client.get("/sandbox/messages?limit=1").json["results"]) == 1
    assert client.get("/sandbox/messages?limit=x").status == 400
    latest = client.get("/sandbox/messages/latest").json
    assert latest == listed["results"][0]
    mid = sandbox.latest.mid
    assert client.get(f"/sandbox/messages/{mid}").json == latest
    assert latest["mid"] == mid
    assert latest["api_version"] == 2
    assert latest["reference_id"] == "ref-1"
    assert latest["campaign"] == "spring"
    assert latest["sender"] == "shop@example.com"
    assert latest["recipients"] == [["to", "jane@example.org"], ["bcc", "b@x.com"]]
    assert (latest["text"], latest["html"]) == ("text", "<p>html")
    assert ["Subject", "s\u00e9cond"] in latest["headers"]
    assert latest["size"] == len(sandbox.latest.raw)
    assert latest["fields"]["attachments"][0]["content"] == "(4 characters of base64)"
    [info] = latest["attachments"]
    assert info == {
        "name": "a.txt",
        "type": "text/plain",
        "size": 3,
        "sha256": hashlib.sha256(b"abc").hexdigest(),
        "content_id": None,
        "inline": False,
        "url": f"/sandbox/messages/{mid}/attachments/1",
    }
    assert "sandbox-key" not in json.dumps(latest)
    fetched = client.get(info["url"])
    assert fetched.body == b"abc"
    assert fetched.headers["Content-Disposition"].startswith("attachment")
    raw = client.get(f"/sandbox/messages/{mid}/raw")
    assert raw.body == sandbox.latest.raw
    assert raw.headers["Content-Type"] == "message/rfc822"
    assert f'filename="{mid}.eml"' in raw.headers["Content-Disposition"]


def test_missing_objects_are_404(client):
    client.send()
    for path in (
        "messages/1",
        "messages/1/raw",
        "messages/latest/attachments/1",
        "messages/latest/attachments/0",
        "messages/latest/attachments/x",
        "messages/latest/attachments/\u00b2".replace("\u00b2", "%C2%B2"),
        "nothing",
        "",
    ):
        assert client.get(f"/sandbox/{path}").status == 404


def test_latest_without_messages(client):
    assert client.get("/sandbox/messages/latest").status == 404


def test_deletes(sandbox, client):
    client.send()
    assert client.request("DELETE", "/sandbox/messages", X_Sandbox="1").status == 200
    assert sandbox.messages == []
    assert sandbox.total_accepted == 0
    assert len(sandbox.requests) == 1


def test_faults(sandbox, client):
    arguments = {"kind": "429", "times": None, "skip": 1, "retry_after": 2}
    added = client.request("POST", "/sandbox/faults", json.dumps(arguments), **JSON)
    assert added.status == 201
    assert arguments.items() <= added.json.items()
    assert client.get("/sandbox/faults").json["faults"] == [added.json]
    assert [client.send().status for _ in range(3)] == [200, 429, 429]
    assert client.request("DELETE", "/sandbox/faults", **JSON).status == 200
    assert sandbox.faults.active == []


@pytest.mark.parametrize(
    "body", ["", "[]", "{}", '{"kind": 3}', '{"kind": "x"}', '{"kind": "500", "a": 1}']
)
def test_bad_faults(sandbox, client, body):
    assert client.request("POST", "/sandbox/faults", body, **JSON).status == 400
    assert sandbox.faults.active == []


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content_Type": "text/plain"},
        {"Content_Type": "application/x-www-form-urlencoded"},
        {"Content_Type": "application/json", "Origin": "https://evil.example"},
        {"Content_Type": "application/json", "Origin": "null"},
    ],
)
def test_requests_of_other_sites_are_refused(sandbox, client, headers):
    client.send()
    body = '{"kind": "500"}'
    assert client.request("POST", "/sandbox/faults", body, **headers).status == 403
    assert client.request("DELETE", "/sandbox/faults", **headers).status == 403
    assert client.request("DELETE", "/sandbox/messages", **headers).status == 403
    assert len(sandbox.messages) == 1
    assert sandbox.faults.active == []
