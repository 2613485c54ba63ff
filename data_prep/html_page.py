"""Sample pairs as one HTML page that needs no other file and no network."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path

from data_prep.sample import SampleImage, SamplePair
from pcclip.atomic import atomic_text

THUMBNAIL = 448  # pixels; shown at half of it on the usual dense screens
MEDIA_TYPES = {"jpg": "image/jpeg", "png": "image/png", "webp": "image/webp"}
FORWARD = '<b class="first">first</b> against <b class="second">second</b>'
REVERSED = 'reversed: the <b class="second">second</b> picture is called first'
STYLE = """
:root { color-scheme: light dark; --page: #f4f4f1; --card: #fff; --ink: #1d1d1b; --soft: #62625c; --line: #deded8;
  --first: #a34a08; --second: #0b62a3; --reason: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --page: #161615; --card: #20201f; --ink: #ecece8; --soft: #a3a39c;
  --line: #383835; --first: #f0a35e; --second: #74b6f0; --reason: #f2857d; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 84rem; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { margin: 0; font-size: 1.4rem; }
header p { margin: .25rem 0 1.5rem; color: var(--soft); }
main { display: grid; gap: 1.25rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 34rem), 1fr)); }
article { padding: 1.25rem; background: var(--card); border: 1px solid var(--line); border-radius: .6rem; }
h2 { margin: 0 0 .75rem; font-size: .8rem; font-weight: 500; color: var(--soft); }
.images { display: grid; grid-template-columns: 1fr 1fr; gap: 1rem; }
figure { margin: 0; }
figcaption { font-size: .875rem; }
figcaption ul { margin: .35rem 0 0; padding-left: 1.1rem; }
.frame { display: flex; align-items: center; justify-content: center; height: 14rem; margin-bottom: .5rem;
  background: var(--page); border-radius: .35rem; }
.frame img { width: 100%; height: 100%; object-fit: contain; }
.frame.missing { color: var(--soft); font-size: .875rem; }
.id { color: var(--soft); }
b { font-weight: 650; } .first { color: var(--first); } .second { color: var(--second); }
.texts { margin: 1rem 0 0; padding-top: .75rem; border-top: 1px solid var(--line); }
.texts dt { font-size: .8rem; color: var(--soft); }
.texts dd { margin: 0 0 .6rem; }
.reason { margin: 0 0 .75rem; color: var(--reason); font-weight: 600; }
"""


def write_page(file: Path, source: str, pairs: Sequence[SamplePair]) -> None:
    """Write the page.

    Args:
        file: The `.html` to write.
        source: Where the pairs come from, for the heading.
        pairs: What to show.
    """
    title = escape(source)
    with atomic_text(file) as stream:
        stream.write(
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
            f"<header><h1>{title}</h1><p>{len(pairs)} pairs, drawn at random</p></header>\n<main>\n"
        )
        for pair in pairs:
            stream.write(_article(pair))
        stream.write("</main>\n</body>\n</html>\n")


def _article(pair: SamplePair) -> str:
    reason = f'<p class="reason">{escape(pair.reason)}</p>\n' if pair.reason else ""
    return (
        f"<article>\n<h2>{escape(pair.where)}</h2>\n{reason}"
        f'<div class="images">\n{_figure(pair.first, "first")}{_figure(pair.second, "second")}</div>\n'
        f'<dl class="texts">\n{_text(FORWARD, pair.text)}{_text(REVERSED, pair.reverse_text)}</dl>\n'
        "</article>\n"
    )


def _text(label: str, text: str | None) -> str:
    return f"<dt>{label}</dt>\n<dd>{'<i>no text</i>' if text is None else escape(text)}</dd>\n"


def _figure(image: SampleImage, role: str) -> str:
    stored = image.thumbnail(THUMBNAIL)
    if stored is None:
        picture = '<div class="frame missing">cannot be read</div>'
    else:
        data = base64.b64encode(stored.payload).decode()
        source = f"data:{MEDIA_TYPES[stored.extension]};base64,{data}"
        picture = f'<div class="frame"><img src="{source}" alt="{role} image"></div>'
    captions = "".join(f"<li>{escape(str(caption))}</li>" for caption in image.captions)
    return (
        f'<figure>{picture}<figcaption><b class="{role}">{role}</b> <span class="id">{escape(image.id)}</span>'
        f"{f'<ul>{captions}</ul>' if captions else ''}</figcaption></figure>\n"
    )
