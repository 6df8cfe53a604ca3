"""ISO 8583:1987 in ASCII: frames in, messages out, and back; what both ends of the card network speak.

Owns:       the field table, the codec, the words of the dialect (docs/iso8583.md); no table.
Announces:  nothing.
May import: core.
Start with: fields.py, then codec.py.
"""

from guilder.iso8583.codec import Message, decode, encode
from guilder.iso8583.errors import FrameError
from guilder.iso8583.masking import describe, silhouette
from guilder.iso8583.reader import FrameReader
from guilder.iso8583.tags import pack_tags, unpack_tags
from guilder.iso8583.text import OriginalData, fit, pack_original, unpack_original
from guilder.iso8583.words import Authenticated, Checked, Code, Mti, Network, Processing, State, Tag

__all__ = [
    "Authenticated",
    "Checked",
    "Code",
    "FrameError",
    "FrameReader",
    "Message",
    "Mti",
    "Network",
    "OriginalData",
    "Processing",
    "State",
    "Tag",
    "decode",
    "describe",
    "encode",
    "fit",
    "pack_original",
    "pack_tags",
    "silhouette",
    "unpack_original",
    "unpack_tags",
]
