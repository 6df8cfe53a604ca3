"""Core: the words that every other room speaks: money, ids, time, errors, outcomes, retries.

Owns:       no table.
Announces:  nothing.
May import: the standard library and msgspec only.
"""
