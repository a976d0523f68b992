#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes a repository's history to stdout: one CloudEvent `git.commit` per commit, oldest first, as NDJSON.

The id is the commit's hash, so publishing the same history again stores nothing twice.
"""
import json
import os
import re
import subprocess
import sys

FIELDS = {"commit": "%H", "author": "%an", "email": "%ae", "date": "%aI", "committed": "%cI", "parents": "%P", "subject": "%s"}


def commits(folder: str):
    """Fields and records are separated by NUL, the one byte that no name and no message can hold."""
    command = ["git", "-c", f"safe.directory={os.path.realpath(folder)}", "-C", folder, "log", "-z", "--reverse", "--encoding=UTF-8"]
    command += ["--format=" + "%x00".join(FIELDS.values())]
    text = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.decode("utf-8", errors="replace")
    values = text.removesuffix("\0").split("\0") if text else []
    for start in range(0, len(values), len(FIELDS)):
        yield dict(zip(FIELDS, values[start:start + len(FIELDS)]))


def event(commit: dict) -> dict:
    attributes = {
        "specversion": "1.0", "id": commit["commit"], "source": "git:millrace", "type": "git.commit",
        "time": commit["committed"], "datacontenttype": "application/json",
    }
    # An attribute holds no control characters, and an empty one does not exist.
    author = re.sub(r"[\x00-\x1f\x7f-\x9f]", "", commit["email"] or commit["author"])
    if author:
        attributes["subject"] = author
    data = {name: commit[name] for name in ("author", "email", "date", "subject")}
    return {**attributes, "data": {**data, "parents": commit["parents"].split()}}


if __name__ == "__main__":
    for one in commits(sys.argv[1] if len(sys.argv) > 1 else "."):
        print(json.dumps(event(one)))
