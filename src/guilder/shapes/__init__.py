"""Shapes: frozen facts in, Stripe's JSON bytes out; the same facts give the same bytes for ever.

Owns:       the fact structs, one version per change of shape (no table).
Announces:  nothing.
May import: core.
Start with: facts.py, then render.py.
"""
