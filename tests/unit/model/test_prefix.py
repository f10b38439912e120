"""A part of a long text has the tokens of the whole: for every kind of tokenizer, or it is whole.

The parts here are as short as they can be, so that almost every text is cut somewhere.
"""

import json
import unicodedata
from types import SimpleNamespace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from tests.support import tiny
from train import encoder
from train.errors import Refused
from train.normalizers import put_before
from worker.model import prefix
from worker.model.prefix import PrefixTokenizer, boundary

CORPUS = [
    *(text for text, _ in tiny.sentences(200)),
    "今天天气很好 我们去公园",
    "it's 12,5 o'clock!!! ... caf\u00e9 na\u00efve \U0001f600",
]


def packaged():
    try:
        tokenizer = Tokenizer.from_file(str(encoder.packaged() / "tokenizer.json"))
    except Refused:
        pytest.skip("the packaged encoder is not installed")
    tokenizer.no_padding()
    return tokenizer


def bert(**options):
    tokenizer = Tokenizer(models.WordPiece(tiny._vocabulary() | {"今": 900}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(**options)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.add_special_tokens(["[MASK]", "[CLS]", "[SEP]"])
    return tokenizer


def byte_level(normalizer=None, **options):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(**options)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=500, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 1), ("<s>", 0))
    tokenizer.add_special_tokens(["<s>", "</s>", AddedToken("<mask>", lstrip=True)])
    return tokenizer


def unigram(splitter, *steps):
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence(list(steps))
    tokenizer.pre_tokenizer = splitter
    trainer = trainers.UnigramTrainer(
        vocab_size=200, unk_token="<unk>", special_tokens=["<unk>", "<s>"], show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def metaspace(**options):
    return pre_tokenizers.Metaspace(**options)


def for_tweets(tokenizer):
    """The tokenizer of a checkpoint that was trained with `--normalizer tweets`."""
    put_before(SimpleNamespace(backend_tokenizer=tokenizer), "tweets")
    return tokenizer


SPACES = normalizers.Replace(Regex(" {2,}"), " ")
CUT = {
    "packaged": packaged,
    "bert": bert,
    "bert, cased": lambda: bert(lowercase=False, strip_accents=False),
    "bert without ideographs": lambda: bert(handle_chinese_chars=False),
    "roberta": lambda: byte_level(add_prefix_space=False),
    "prefix space": lambda: byte_level(add_prefix_space=True),
    "byte level, NFC": lambda: byte_level(normalizers.NFC(), add_prefix_space=False),
    "xlm-roberta": lambda: unigram(
        pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), metaspace()]),
        *(normalizers.NFKC(), SPACES),
    ),
    "albert": lambda: unigram(
        metaspace(),
        *(normalizers.Replace("``", '"'), normalizers.NFKD(), normalizers.StripAccents()),
        *(normalizers.Lowercase(), SPACES),
    ),
    "bert, tweets": lambda: for_tweets(bert()),
    "byte level, tweets": lambda: for_tweets(byte_level(add_prefix_space=False)),
    "metaspace, first": lambda: unigram(metaspace(prepend_scheme="first"), normalizers.Strip()),
}
WHOLE = {
    "no pre-tokenizer": lambda: unigram(None, normalizers.Replace(" ", "\u2581")),
    "metaspace without a split": lambda: unigram(metaspace(split=False), normalizers.NFKC()),
    "bytes without words": lambda: byte_level(add_prefix_space=False, use_regex=False),
    "another pattern": lambda: unigram(pre_tokenizers.Split(Regex(r"\d"), "isolated")),
    "another replacement": lambda: unigram(metaspace(), normalizers.Replace(Regex(r"\s"), "")),
    "bytes first": lambda: unigram(metaspace(), normalizers.ByteLevel()),
}
KINDS = CUT | WHOLE
ALPHABET = [
    *"abehz '!,.[]<>#@\t\n\r_0",
    *("@ab", "#a", "www.", "http://x", "sooo", "aaa", "&amp;", "&lt;", "lt;"),
    *("the ", "happy", " [MASK] ", "[MASK]", "<mask>", " <mask> ", "<s>", "``", "'s ", "!!!"),
    *("\u0301", "\u0338", "e\u0301", "\u00e9", "\u200d", "\ufe0f", "\u00a0", "\u3000", "\u2003"),
    *(
        "今",
        "天气",
        "\uff0c",
        "한",
        "ひ",
        "\u1100",
        "\u0e33",
        "\ufe70",
        "\u00b4",
        "\u0600",
        "\u0d4e",
    ),
    *("\U0001f600", "\U0001f44d\U0001f3fd", "\U0001f468\u200d\U0001f469", "\ufb01", "\u2581"),
]
TEXTS = st.lists(st.sampled_from(ALPHABET) | st.characters(exclude_categories=["Cs"]), max_size=40)
LENGTHS = st.integers(3, 12)


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    return request.param, KINDS[request.param]()


@pytest.fixture(autouse=True, scope="module")
def short():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefix, "SHORTEST_PREFIX", 2)
        patch.setattr(prefix, "CHARACTERS_PER_TOKEN", 1)
        patch.setattr(prefix, "GROWTH", 2)
        yield


def whole(tokenizer, texts, length, side="right"):
    tokenizer.enable_truncation(length, direction=side)
    return [(each.ids, bool(each.overflowing)) for each in tokenizer.encode_batch(texts)]


@settings(max_examples=60)
@given(texts=st.lists(TEXTS.map("".join), max_size=4), length=LENGTHS)
@example(texts=["!" * 60, "今天" * 30, "a" * 60, "e\u0301" * 30, "\U0001f600" * 60], length=4)
@example(texts=["a [MASK] b [MASK] [MASK][MASK]a.[MASK]" * 4], length=9)
@example(texts=["a <mask> b<mask>c <mask> d" * 4], length=9)
@example(texts=["a<\u0338b " * 9, "x \u0301y " * 9, "it's 's 's " * 9], length=5)
@pytest.mark.parametrize("side", ["right", "left"])
def test_the_tokens_are_those_of_the_whole_text(kind, side, texts, length):
    _, tokenizer = kind
    expected = whole(tokenizer, texts, length, side)
    assert PrefixTokenizer(tokenizer, max_length=length).encode(texts) == expected


NOT_AT_THE_END = {"metaspace, first"}
"""Of `CUT`, those of which only a prefix has the tokens of the whole."""


@pytest.mark.parametrize(
    ("side", "cut"), [("right", set(CUT)), ("left", set(CUT) - NOT_AT_THE_END)]
)
def test_a_text_is_cut_where_that_is_safe_and_else_given_whole(kind, side, cut):
    name, tokenizer = kind
    tokenizer.enable_truncation(8, direction=side)
    assert (boundary(tokenizer) is not None) == (name in cut)


def test_a_text_may_begin_with_a_space_unless_that_changes_its_tokens():
    """Where it is truncated on the left, what is given to the tokenizer begins with a space."""
    unsafe = {
        "a prefix": byte_level(normalizers.Prepend("x"), add_prefix_space=False),
        "a strip": byte_level(normalizers.Strip(), add_prefix_space=False),
        "a first word": unigram(metaspace(prepend_scheme="first")),
        "a token that takes the space behind it": byte_level(add_prefix_space=False),
    }
    unsafe["a token that takes the space behind it"].add_tokens([AddedToken("<x>", rstrip=True)])
    for name, tokenizer in unsafe.items():
        assert boundary(tokenizer) is not None, name
        tokenizer.enable_truncation(8, direction="left")
        assert boundary(tokenizer) is None, name


@pytest.mark.parametrize(
    "token",
    [
        AddedToken("two words"),
        AddedToken("a\ttab"),
        AddedToken("\u4e00\u4e8c", normalized=True),
    ],
    ids=str,
)
def test_an_added_token_that_may_reach_over_a_boundary_forbids_all(token):
    tokenizer = bert()
    tokenizer.add_tokens([token])
    assert boundary(tokenizer) is None


def test_ideographs_and_punctuation_of_an_added_token_are_no_boundaries():
    tokenizer = bert()
    assert boundary(tokenizer).search("a.b")
    assert boundary(tokenizer).search("a今b")
    assert not boundary(tokenizer).search("a[b]c")
    tokenizer.add_special_tokens([AddedToken("<.今>", normalized=False)])
    assert not boundary(tokenizer).search("a.b今c")
    alone = bert()
    alone.add_tokens([AddedToken("foo", single_word=True)])
    assert not boundary(alone).search("a.b今c")


def test_no_normalizer_turns_a_plain_character_into_white_space_or_joins_it_to_a_space():
    """By Unicode's own tables; what sentencepiece maps is a part of NFKC."""
    plain = prefix.re.compile(f"[{prefix.PLAIN}]")
    for code in range(0x110000):
        character = chr(code)
        if not plain.match(character):
            continue
        assert not character.isspace()
        assert unicodedata.combining(character) == 0
        for form in ("NFC", "NFD", "NFKC", "NFKD"):
            assert " " not in (normal := unicodedata.normalize(form, character)), hex(code)
            assert unicodedata.combining(normal[0]) == 0
            assert unicodedata.normalize(form, f"a {character}")[:2] == "a "


class Counting:
    """Counts the characters that a tokenizer is given."""

    def __init__(self, tokenizer):
        self.tokenizer, self.characters = tokenizer, 0
        self.normalizer, self.pre_tokenizer = tokenizer.normalizer, tokenizer.pre_tokenizer
        self.truncation = tokenizer.truncation

    def get_added_tokens_decoder(self):
        return self.tokenizer.get_added_tokens_decoder()

    def encode_batch_fast(self, texts):
        self.characters += sum(map(len, texts))
        return self.tokenizer.encode_batch_fast(texts)


LONG = {
    "words": "hello world how are you ",
    "lines": "hello\nworld\n",
    "Chinese": "今天天气很好我们去公园",
    "exclamation marks": "!",
    "words of emoji": "\U0001f600\U0001f602 ",
    "a list": "1,2,",
}


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("name", LONG)
def test_of_a_long_text_no_more_is_tokenized_than_the_model_has_room_for(monkeypatch, name, side):
    monkeypatch.setattr(prefix, "SHORTEST_PREFIX", 1_024)
    monkeypatch.setattr(prefix, "CHARACTERS_PER_TOKEN", 8)
    monkeypatch.setattr(prefix, "GROWTH", 4)
    text = LONG[name] * (50_000 // len(LONG[name]))
    tokenizer = packaged()
    expected = whole(tokenizer, [text], 128, side)
    counting = Counting(tokenizer)
    assert PrefixTokenizer(counting, max_length=128).encode([text]) == expected
    assert expected[0][1]
    assert counting.characters < 2_048


def test_the_parts_are_read_as_the_file_of_a_tokenizer_has_them():
    """A release that names them otherwise would tokenize every text whole."""
    written = json.loads(bert().to_str())
    assert prefix._parts(bert().normalizer) == [written["normalizer"]]
    assert prefix._parts(bert().pre_tokenizer) == [written["pre_tokenizer"]]
