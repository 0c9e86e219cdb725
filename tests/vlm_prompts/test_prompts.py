from pathlib import Path

import pytest

import vlm_prompts
from corpus.errors import UserError
from stages.measures import text_rules

GOLDEN = Path(__file__).parent / "golden"
TEXT = """---
id: mine
version: "3"
purpose: a test
output: {type: object, properties: {caption: {type: string}}, required: [caption]}
must_not: [lie]
---
# clip
All {duration} s as {{json}}.
# first
From {start} to {end}.
# next
From {start}, after "{previous}".
# unchained
From {start} on.
"""


@pytest.mark.parametrize("name", vlm_prompts.available())
def test_what_ships_can_be_asked(name: str) -> None:
    prompt = vlm_prompts.load(name)
    assert prompt.id == name and prompt.purpose and prompt.must_not
    values = {"start": 2.0, "end": 4.5, "duration": 2.5, "previous": "A red car stops."}
    asked = {section: prompt.render(section, **values) for section in vlm_prompts.PLACEHOLDERS}
    assert "A red car stops." in asked["next"] and "from 2 s to 4.5 s" in asked["next"]
    assert "A red car stops." not in asked["unchained"] and "2.5 seconds" in asked["clip"]
    assert all('{"caption": "..."}' in text or "JSON" not in text for text in asked.values())
    assert prompt.output["required"] == ["caption"]


@pytest.mark.parametrize("name", vlm_prompts.available())
def test_what_ships_says_what_it_said(name: str) -> None:
    """A changed text is a new version. What is asked now: `tv2tv prompt show NAME`."""
    told = vlm_prompts.example(vlm_prompts.load(name))
    assert told == (GOLDEN / f"{name}.txt").read_text(encoding="utf-8")


def test_every_kind_of_film_that_matters_has_a_prompt_of_its_own() -> None:
    names = vlm_prompts.available()
    assert set(names) >= {*("generic", "sport", "cooking", "instructional", "driving", "gameplay")}
    assert {path.stem for path in GOLDEN.glob("*.txt")} == set(names)
    asked = [vlm_prompts.load(name).sections["next"] for name in names]
    assert len(set(asked)) == len(asked)


@pytest.mark.parametrize("name", vlm_prompts.available())
def test_what_ships_does_not_say_itself_what_captions_must_not(name: str) -> None:
    """Models copy the words of their prompt: none of them may be a hedge."""
    prompt = vlm_prompts.load(name)
    values = {"start": 2.0, "end": 4.5, "duration": 2.5, "previous": "A red car stops."}
    for section in vlm_prompts.PLACEHOLDERS:
        assert text_rules.plain(prompt.render(section, **values)) == 1


def test_pieces_are_put_in_and_belong_to_what_is_asked() -> None:
    text = TEXT.replace("{{json}}", "{{json}} {style} {mine}") + "# mine\nFrom {duration}, {{x}}.\n"
    prompt = vlm_prompts.parse(text, "mine.md")
    style = vlm_prompts.shared()["style"]
    assert style in prompt.sections["clip"]
    assert prompt.render("clip", duration=4.0) == f"All 4 s as {{json}} {style} From 4, {{x}}.."
    assert set(prompt.sections) == set(vlm_prompts.PLACEHOLDERS)
    own = vlm_prompts.parse(text + "# style\nTerse.\n", "mine.md")
    assert "Terse." in own.sections["clip"] and style not in own.sections["clip"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("# mine\nNot used.\n", "none of them holds {mine}"),
        ("# previous\nx\n", "previous is a placeholder"),
        ("# look\nA {style}.\n", "a piece cannot hold a piece"),
        ("# look\nA {previous}.\n", r"section clip: \['previous'\] are no placeholders"),
    ],
)
def test_a_piece_that_cannot_work_is_refused(more: str, message: str) -> None:
    text = TEXT if "mine" in more or "previous\n" in more else TEXT.replace("All", "{look} All")
    with pytest.raises(UserError, match=message):
        vlm_prompts.parse(text + more, "mine.md")


def test_the_worked_example_of_the_docs_is_a_prompt() -> None:
    docs = Path(__file__).parents[2] / "docs" / "prompts.md"
    (example,) = [one for one in docs.read_text().split("```") if one.startswith("\n---\n")]
    prompt = vlm_prompts.parse(example.lstrip("\n"), "docs")
    assert prompt.id == "surf" and "40 words" in prompt.sections["next"]


def test_rendering_inserts_values_and_nothing_else() -> None:
    prompt = vlm_prompts.parse(TEXT, "mine.md")
    assert prompt.name == "mine/3"
    assert prompt.render("clip", duration=4.0) == "All 4 s as {json}."
    hostile = "{start} {0} {previous.__class__} %s"
    assert prompt.render("next", start=1.25, previous=hostile) == f'From 1.25, after "{hostile}".'


def test_rendering_names_what_is_missing() -> None:
    prompt = vlm_prompts.parse(TEXT, "mine.md")
    with pytest.raises(UserError, match=r"section next: no value for \['previous'\]"):
        prompt.render("next", start=1.0)
    with pytest.raises(UserError, match="no section 'last', only clip, first, next, unchained"):
        prompt.render("last")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("---\nid", "id", "front matter between two lines"),
        ("purpose: a test\n", "", "purpose"),
        ("purpose: a test", "purpose: a test\ncolour: red", "colour"),
        ("must_not: [lie]", "must_not: []", "must_not"),
        ("id: mine", "id: [", "front matter"),
        ("caption: {", "text: {", "requires a property caption of type string"),
        ("[caption]", "[]", "requires a property caption"),
        ("{type: string}", "{type: array}", "must ask for a text"),
        ("{type: object, properties:", "{properties: null, x:", "must ask for a text"),
        ("# next\n", "# text\n", "needs the sections clip, first, next, unchained"),
        ("# next\n", "# first\n", "each once"),
        ("# clip", "hello\n# clip", "before the first section: hello"),
        ("{previous}", "{before}", r"\['before'\] are no placeholders"),
        ("{duration} s", "{previous}", r"section clip: \['previous'\] are no placeholders"),
        ("{{json}}", "{json", "a literal brace is written twice"),
        ("{duration} s", "{duration:.3f} s", "section clip: Unknown format code"),
        ("{type: string}", "{type: string, maxLength: many}", "no JSON schema: 'many' is not"),
        ("{type: string}", '{type: string, pattern: "(["}', "no JSON schema"),
        ("{type: string}", "{type: string, default: !!binary aGk=}", "no JSON schema: .* bytes"),
        ("[caption]", "[caption], allOf: [{$ref: 'http://x/y'}]", "no JSON schema: Unresolvable"),
        ("[caption]", "[caption], allOf: [{$ref: '#'}]", "no JSON schema: maximum recursion"),
        ("From {start} on.\n", "", "section unchained is empty"),
    ],
)
def test_a_malformed_prompt_says_where_and_what(old: str, new: str, message: str) -> None:
    assert old in TEXT
    with pytest.raises(UserError, match=message) as error:
        vlm_prompts.parse(TEXT.replace(old, new), "mine.md")
    assert "mine.md" in str(error.value)


def test_prompts_are_named_or_given_by_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.md"
    path.write_text(TEXT)
    assert vlm_prompts.load(str(path)).id == "mine"
    path.write_bytes(b"\xef\xbb\xbf" + TEXT.replace("\n", "\r\n").encode())  # as Windows saves it
    assert vlm_prompts.load(str(path)).sections == vlm_prompts.parse(TEXT, "mine.md").sections
    path.write_bytes(TEXT.encode() + b"\xe4")
    with pytest.raises(UserError, match=r"mine\.md cannot be read as UTF-8"):
        vlm_prompts.load(str(path))
    with pytest.raises(UserError, match=r"'sprot' not found: name one of .*generic"):
        vlm_prompts.load("sprot")
    with pytest.raises(UserError, match=r"or a \.md file"):
        vlm_prompts.load(str(tmp_path / "none.md"))
