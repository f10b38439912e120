"""Texts as people type them: a text of a tidy dataset with capitals, mentions, links and the like.

A checkpoint should give it the label of the tidy text. Rules alone make them, so they are the same
at every run.
"""

import random
import re
from collections.abc import Callable, Mapping, Sequence

_WORD = re.compile(r"[^\W\d_]{5,}")
_VOWEL = re.compile(r"[aeiou](?=[^\W\d_aeiou]?\b)", re.IGNORECASE)
_SHORT = {
    "im": "I'm", "ive": "I've", "id": "I'd", "dont": "don't", "didnt": "didn't", "cant": "can't",
    "wasnt": "wasn't", "isnt": "isn't", "its": "it's", "thats": "that's", "couldnt": "couldn't",
    "doesnt": "doesn't", "wouldnt": "wouldn't", "youre": "you're", "theyre": "they're",
}  # fmt: skip
_ENDS = (".", "!", "...", " .", "!!", ";")
_EMOJI = ("📌", "🔁", "🕒", "👀", "📷", "☕", "🎧", "💬")
_NAMES = ("@mia_84", "@the_real_tom", "@NewsDesk", "@k8lyn")
_LINKS = ("https://t.co/x7Qp2LdR0b", "http://bit.ly/2fGh7", "https://www.example.com/a?b=1&c=2")
_TAGS = ("#mondaythoughts", "#nowplaying", "#TBT", "#life")


def _capitals(text: str, source: random.Random) -> str:
    if source.random() < 0.3:  # noqa: PLR2004 - a share of people shout
        return text.upper()
    return re.sub(r"\bi\b", "I", text[:1].upper() + text[1:])


def _punctuation(text: str, source: random.Random) -> str:
    words = [_SHORT.get(word, word) for word in text.split(" ")]
    for place in range(5, len(words) - 2, 7):
        words[place] += ","
    return " ".join(words) + source.choice(_ENDS)


def _hashtag(text: str, source: random.Random) -> str:
    found = [match.start() for match in _WORD.finditer(text)]
    if not found:
        return f"{text} {source.choice(_TAGS)}"
    place = source.choice(found)
    return f"{text[:place]}#{text[place:]}"


def _stretched(text: str, source: random.Random) -> str:
    found = [match.start() for match in _VOWEL.finditer(text)]
    if not found:
        return text
    place = source.choice(found)
    return text[:place] + text[place] * source.randint(3, 5) + text[place + 1 :]


def _entity(text: str, source: random.Random) -> str:
    if " and " in text:
        return text.replace(" and ", " &amp; ", 1)
    return source.choice(("&gt; ", "&quot;")) + text


RULES: Mapping[str, Callable[[str, random.Random], str]] = {
    "capitals": _capitals,
    "punctuation": _punctuation,
    "hashtag": _hashtag,
    "stretched letters": _stretched,
    "entity": _entity,
    "mention": lambda text, source: f"{source.choice(_NAMES)} {text}",
    "link": lambda text, source: f"{text} {source.choice(_LINKS)}",
    "emoji": lambda text, source: f"{text} {source.choice(_EMOJI)}",
}
"""By what they do, those that change words first: none changes a name or a link that was added. The
emoji are of no emotion."""


def noisy(texts: Sequence[str], *, rules: Sequence[str] = tuple(RULES)) -> list[str]:
    """Each text after one to three of the rules, in the order of `RULES`.

    Args:
        texts: Of any dataset. Those of English words change nothing in other languages.
        rules: Of which some are drawn for each text. One alone is applied to each.
    """
    found = []
    for number, text in enumerate(texts):
        source = random.Random(number)  # noqa: S311 - no secret
        drawn = set(source.sample(list(rules), k=min(len(rules), source.randint(1, 3))))
        for name in RULES:
            if name in drawn:
                text = RULES[name](text, source)  # noqa: PLW2901 - step by step
        found.append(text)
    return found
