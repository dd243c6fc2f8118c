"""Gives microburst its rules, or none with `null`, and prints those that it has, with how often each was used.

    python burst.py URL RULES
"""

import json
import sys
import urllib.request

URL, RULES = sys.argv[1:3]


def ask(what, method="GET", body=None):
    request = urllib.request.Request(f"{URL}/_microburst/{what}", method=method, data=body and body.encode())
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.load(answer)


if RULES != "null":
    ask("rules", "POST", RULES)
print(json.dumps(ask("rules")))
