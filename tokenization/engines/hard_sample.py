"""What an engine must encode as the reference does before it is used."""

from __future__ import annotations

from collections.abc import Sequence


def hard_sample(specials: Sequence[str]) -> list[str]:
    """Texts on which tokenizers have been seen to differ.

    Every code point of the Basic Multilingual Plane in steps of 13 and of the others in steps of 997, alone between
    letters and in runs; contractions in all cases, also with letters that are ``s`` or ``k`` once case is ignored; runs
    of every white space; digits; code; joined emoji; decomposed accents; and the given special-token texts, whole, cut
    short and nested.
    """
    points = [*range(0x20, 0xD800, 13), *range(0xE000, 0x10000, 13), *range(0x10000, 0x110000, 997)]
    runs = ["".join(map(chr, points[start : start + 64])) for start in range(0, len(points), 64)]
    between = ["".join(f"a{chr(point)}b {chr(point)}" for point in points[start::97]) for start in range(97)]
    spaces = [
        f"x{space * count}{end}"
        for space in (" ", "\t", "\n", "\r\n", "\u00a0", "\u2003", "\u3000", "\u0085", " \n", "\n ")
        for count in (1, 2, 3, 7, 33)
        for end in ("", "y", "\n", "!")
    ]
    contractions = [
        f"{before}'{ending}{after}"
        for before in ("i", "a i", "a I", "a \u00e9", " ")
        for ending in (*"stmdSK", "re", "VE", "Ll", *"\u017f\u212a\u0130\u0131\u00df\u1e9e\ufb05\ufb06", "r\u0435")
        for after in ("", "s", " b")
    ]
    words = [
        "I'm you'RE WE'LL don'T it'S o'clock 'tis ''s x'd x'\u017f",
        "0 1 12 123 1234 12345 3.14159 1,000,000 ½ ٣٤ ४५ 1e-9",
        'def f(x):\n\tif x >= 10:\n\t\treturn {"a": [1, 2]}  # note\n\n\n',
        "<html>\n  <p class='x'>a&amp;b</p>\n</html>\n// ===== \\\\ ____ -----",
        "👩\u200d👩\u200d👧\u200d👦 🏳\ufe0f\u200d🌈 👍🏽 e\u0301 \u1112\u1161\u11ab ﬁ Å Ω ǅ ß İ \u0131",
        "机器学习是人工智能的一个分支。東京に行きました\uff01 한국어 ไทย हिन्दी עברית العربية",
        "a" * 500 + " " + "é" * 100 + "\ufeff\u200b\ufffd\x00\x7f",
    ]
    with_specials = [text for special in specials[:64] for text in (special, f"a{special}b {special}\n", special[:-1])]
    return ["", " ", *runs, *between, *spaces, *contractions, *words, *with_specials, "".join(specials[:64])]
