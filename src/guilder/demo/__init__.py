"""Demo: a merchant's developer for half a minute. It takes real payments with the official `stripe` package, over HTTP.

It is a client and nothing else: it imports no room of ours, only `core` for the way in which money is written. What it
knows of the bank world it asks on the control port, as anybody may.

Owns:       nothing.
Announces:  nothing.
May import: core; the stripe package.
Start with: scenario.py.
"""
