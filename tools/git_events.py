#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes a repository's history to stdout: one CloudEvent `git.commit` per commit, oldest first, as NDJSON.

The id is the commit's hash, so publishing the same history again stores nothing twice. An event therefore holds only
what the commit itself says: a shallow clone, a replaced commit or a reader's settings change nothing in it.
"""
import datetime
import json
import os
import subprocess
import sys

FIELDS = {"commit": "%H", "author": "%an", "email": "%ae", "date": "%aI", "committed": "%ct", "subject": "%s"}


def commits(folder: str):
    """Fields and records are separated by NUL, the one byte that no name and no message can hold."""
    folder = os.path.realpath(folder)
    # This folder's own history: not that of a repository around it, nor of one that a git hook runs in.
    env = {name: value for name, value in os.environ.items() if name not in ("GIT_DIR", "GIT_WORK_TREE", "GIT_COMMON_DIR")}
    env.update(GIT_CEILING_DIRECTORIES=os.path.dirname(folder))
    command = ["git", "--no-replace-objects", "-c", f"safe.directory={folder}", "-C", folder, "log", "-z", "--reverse"]
    command += ["--encoding=UTF-8", "--no-show-signature", "--format=" + "%x00".join(FIELDS.values())]
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE)
    if done.returncode != 0:
        sys.exit(f"{folder} has no git history to read")
    text = done.stdout.decode("utf-8", errors="replace")
    values = text.removesuffix("\0").split("\0") if text else []
    for start in range(0, len(values), len(FIELDS)):
        yield dict(zip(FIELDS, values[start:start + len(FIELDS)]))


def rfc3339(seconds: str) -> str | None:
    """In UTC, since git keeps zones like +51:30 that RFC 3339 has not; nothing for a time beyond its years."""
    try:
        return datetime.datetime.fromtimestamp(int(seconds), datetime.timezone.utc).isoformat()
    except (ValueError, OverflowError, OSError):
        return None


def is_allowed(character: str) -> bool:
    """Whether a CloudEvents attribute may hold it: no control characters, no noncharacters."""
    point = ord(character)
    return not (point < 0x20 or 0x7F <= point < 0xA0 or 0xFDD0 <= point <= 0xFDEF or point & 0xFFFE == 0xFFFE)


def event(commit: dict) -> dict:
    attributes = {
        "specversion": "1.0", "id": commit["commit"], "source": "git:millrace", "type": "git.commit",
        "time": rfc3339(commit["committed"]), "datacontenttype": "application/json",
        "subject": "".join(filter(is_allowed, commit["email"] or commit["author"])),
    }
    data = {name: commit[name] for name in ("author", "email", "date", "subject")}
    return {**{name: value for name, value in attributes.items() if value}, "data": data}


if __name__ == "__main__":
    for one in commits(sys.argv[1] if len(sys.argv) > 1 else "."):
        print(json.dumps(event(one)))
