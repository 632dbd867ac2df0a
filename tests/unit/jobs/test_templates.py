"""Templates of somebody else's: whatever they do, rendering them is bounded and what is wrong has a name."""

from __future__ import annotations

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from jobs.errors import InputError
from jobs.prompt_template import PromptTemplate, TemplateError, TemplateUnboundedError
from jobs.templates import BoundedEnvironment, TemplateTooLargeError, bounded, fault_of
from kinds.article.brief import ArticleSettings

FORTY = (
    "{% set ns = namespace(a='ab' ~ text) %}{% for i in range(40) %}{% set ns.a = OP %}{% endfor %}{{ ns.a }}"
)
"""Does something to a value again and again: where it doubles, a terabyte comes of it."""

pytestmark = pytest.mark.attack("template that grows without bound")


def render(source: str, text: str = "some text of a row") -> str:
    """As a chat template is rendered."""
    with bounded({"text": text}):
        return BoundedEnvironment().from_string(source).render(text=text)


def article_template(body: str, head: str = "") -> str:
    return (
        f"{head}{{% block system %}}s{{% endblock %}}\n{{% block first %}}{body}{{% endblock %}}"
        "{% block next %}n{% endblock %}"
    )


@pytest.mark.parametrize(
    "operation",
    [
        "ns.a ~ ns.a",
        "ns.a + ns.a",
        "ns.a * 2",
        "[ns.a, ns.a]",
        "(ns.a, ns.a)",
        "{1: ns.a, 2: ns.a}",
        "dict(a=ns.a, b=ns.a)",
        "cycler(ns.a, ns.a)",
        "[ns.a, ns.a] | join",
        "[ns.a, ns.a] | map('string') | join",
        "ns.a | list | join(ns.a)",
        "ns.a.join(ns.a)",
        "ns.a | replace('', ns.a)",
        "ns.a.replace('a', ns.a)",
        "'%s%s' % (ns.a, ns.a)",
        "'%s%s' | format(ns.a, ns.a)",
        "'{0}{0}'.format(ns.a)",
        "(ns.a | safe) ~ ns.a",
        "[ns.a, ns.a] | tojson",
    ],
)
def test_a_value_that_doubles_ends_at_the_bound(operation: str) -> None:
    with pytest.raises(TemplateTooLargeError):
        render(FORTY.replace("OP", operation))


@pytest.mark.parametrize(
    "source",
    [
        "{{ 'x' * 10**9 }}",
        "{{ [1] * 10**9 }}",
        "{{ 10**10**10 }}",
        "{% set ns = namespace(n=9) %}{% for i in range(9) %}{% set ns.n = ns.n * ns.n %}{% endfor %}",
        "{{ '%1000000000d' % 1 }}",
        "{{ '%*d' % (10**9, 1) }}",
        "{{ '%.1000000000f' | format(1.5) }}",
        "{{ '{:1000000000}'.format(1) }}",
        "{{ '{:{}}'.format(1, 10**9) }}",
        "{{ 'x' | center(1000000000) }}",
        "{{ 'a\\nb' | indent(10**9) }}",
        "{{ 'x'.ljust(10**9) }}",
        "{{ '1'.zfill(10**9) }}",
        "{{ 1 | round(-1000000000) }}",
        "{{ [1] | batch(10**9, 'x') | list }}",
        "{{ [1] | slice(10**9) | list }}",
    ],
)
def test_a_number_makes_no_text_list_or_integer_without_bound(source: str) -> None:
    with pytest.raises(TemplateTooLargeError):
        render(source)


@pytest.mark.parametrize(
    "source",
    [
        "{{ ('9' * 4000) | int }}",
        "{{ ('f' * 4000) | int(0, 16) }}",
        "{{ ['9' * 4000] | map('int') | list }}",
        "{{ -(('9' * 40) | int) }}",
        "{{ '1e300' | float | int }}",
        "{{ [2 ** 62, 2 ** 62] | sum }}",
        "{{ (2 ** 62) | float | round(-1) | int * 2 }}",
        "{{ " + "9" * 40 + " }}",
        "{{ 0x" + "f" * 90_000 + " }}",
        "{% if false %}{{ 0b" + "1" * 64 + " }}{% endif %}",
    ],
)
def test_an_integer_is_bounded_wherever_it_comes_from(source: str) -> None:
    with pytest.raises(TemplateTooLargeError, match="an integer of more than 63 bits"):
        render(source)


def test_a_number_beyond_all_floats_is_named() -> None:
    with pytest.raises(TemplateTooLargeError, match="it contains a number that is too large for a float"):
        render("{{ 1e400 }}")


@pytest.mark.parametrize(
    "step",
    [
        "",
        "{% for j in range(100000) %}{% endfor %}",
        "{% set x = range(100000) | sum %}",
        "{% set x = range(100000) | map('string') | list %}",
        "{% set x = range(100000) | map(attribute='real') | max %}",
        "{% if 1.5 in range(100000) %}{% endif %}",
        "{% set x = ('a' * 90000).count('b') %}",
        "{% set x = ('a' * 90000)[1:] %}",
        "{% if text is in('a' * 90000) %}{% endif %}",
        "{% set x = ('a' * 90000) | upper %}",
        "{% set x %}" + "literal text " * 100 + "{% endset %}",
    ],
)
def test_steps_are_bounded_whatever_a_step_is(step: str) -> None:
    with pytest.raises(TemplateTooLargeError):
        render(
            "{% for i in range(100000) %}"
            + step
            + "{% endfor %}" * 1
            + "{% for i in range(99999) %}{% endfor %}"
        )


@pytest.mark.parametrize(
    "source",
    [
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
        "{% block b %}{{ self.b() }}{% endblock %}",
        "{% macro m0() %}x{% endmacro %}"
        + "".join(
            f"{{% macro m{i}() %}}{{{{ m{i - 1}() ~ m{i - 1}() }}}}{{% endmacro %}}" for i in range(1, 39)
        )
        + "{{ m38() }}",
    ],
    ids=["macro", "loop", "block", "tree"],
)
def test_calls_are_bounded_in_depth_and_number(source: str) -> None:
    with pytest.raises(TemplateTooLargeError):
        render(source)


def test_work_may_grow_with_what_a_template_is_given() -> None:
    text = "word " * 200_000
    assert render("{{ text | trim | upper }}{{ text }}", text) == text.strip().upper() + text


@pytest.mark.parametrize(
    ("step", "number"), [("{{ text }}", 13), ("{{ text | upper }}", 12), ("{{ [text, text] | length }}", 8)]
)
def test_work_that_grows_faster_than_what_a_template_is_given_ends_at_the_bound(
    step: str, number: int
) -> None:
    text = "word " * 20_000
    source = f"{{% for i in range(N) %}}{step}{{% endfor %}}"
    render(source.replace("N", str(number)), text)  # more than the base allows
    with pytest.raises(TemplateTooLargeError, match=f"the limit of {1_000_000 + 32 * (len(text) + 7):,} "):
        render(source.replace("N", "60"), text)


def test_a_block_without_variables_is_rendered_once() -> None:
    template = PromptTemplate.compile("own", "1", article_template("{{ topic }}"))
    assert template.render("system", {}) is template.render("system", {})
    assert template.render("first", {"topic": "a"}) == "a"
    assert template.render("first", {"topic": "b"}) == "b"
    with pytest.raises(TemplateError):
        template.render("first", {})


def test_templates_as_models_have_them_render_as_before() -> None:
    source = """\
{%- if messages[0]['role'] == 'system' -%}{%- set head = messages[0].content | trim -%}
{%- set messages = messages[1:] -%}{%- else -%}{%- set head = '' -%}{%- endif -%}
{%- set ns = namespace(last=messages | length - 1, seen=false) -%}
{%- for message in messages[::-1] -%}{%- set index = (messages | length - 1) - loop.index0 -%}
{%- if message.role == 'user' and message.content is string and not message.content.startswith('<t>') -%}
{%- set ns.last = index -%}{%- endif -%}{%- endfor -%}
{%- for message in messages -%}
{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}{{ raise_exception('order') }}{%- endif -%}
<|{{ message.role }}|>{{ message.content.split('</think>')[-1].lstrip('\\n') | replace('a', 'b') }}
{{- message | tojson }}{{ '%02d' | format(loop.index) }}
{%- if loop.previtem is defined and loop.previtem.role == 'user' %}{{ loop.changed(1) }}{% endif -%}
{%- endfor -%}
{{ messages | selectattr('role', 'equalto', 'user') | list | length }}{{ ns.last }}{{ head }}
{{- messages | map(attribute='content') | join('|') }}
{%- for k, v in messages[0] | items %}{{ k }}{% endfor -%}
{%- if add_generation_prompt %}{{ '<|assistant|>' + bos }}{% endif -%}"""
    variables = {
        "messages": [
            {"role": "system", "content": " Be kind. "},
            {"role": "user", "content": "Say a word"},
            {"role": "assistant", "content": "<think>x</think>\nA word"},
        ],
        "bos": "<s>",
        "add_generation_prompt": True,
    }
    expected = ImmutableSandboxedEnvironment().from_string(source).render(variables)
    with bounded(variables):
        assert BoundedEnvironment().from_string(source).render(variables) == expected


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("{% for a in topic %}" * 30 + "{% endfor %}" * 30, "nested too deep"),
        ("{{ " + "(" * 500 + "1" + ")" * 500 + " }}", "nested too deep"),
        ("{{ " + " + ".join(["1"] * 3000) + " }}", "nested too deep"),
        ("{% if topic %}" * 300 + "{% endif %}" * 300, "nested too deep"),
        ("{{ " + "9" * 5000 + " }}", "4300 digits"),
        ("\n{{ 5 | data }}", "line 3: the filter `data` requires a text, not int"),
        ("\n\n{{ nothing }}", "line 4: 'nothing' is undefined; the available variables are audience, facts"),
        ("{{ topic.nothing.else }}", "has no attribute 'nothing'"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{{ topic + 1 }}", "line 2: can only concatenate str"),
        ("{{ {}['a'] }}", "no attribute 'a'"),
        ("{{ none + 1 }}", "unsupported operand"),
        ("{% include 'x' %}", "it includes 'x', but a template cannot use another one"),
        ("{% include 'x' ignore missing %}", "it includes 'x', but a template cannot use another one"),
        ("{% include [topic, 'x'] %}", "it includes another template, but a template cannot use another one"),
        ("{% if false %}{% include topic %}{% endif %}", "it includes another template, but"),
        ("\n{% import 'x' as y %}", "line 3: it imports 'x', but a template cannot use another one"),
        ("{% from 'x' import y %}", "it imports from 'x', but a template cannot use another one"),
        ("{% extends 'x' %}", "it extends 'x', but a template cannot use another one"),
        ("{{ topic | center(5) }}", "No filter named 'center'"),
    ],
)
def test_a_template_that_cannot_be_used_is_refused_by_name(body: str, reason: str) -> None:
    with pytest.raises(TemplateError) as caught:
        ArticleSettings(template_source=article_template(body))
    assert caught.value.code == "template_invalid"
    assert reason in str(caught.value)
    assert len(str(caught.value)) < 600


def test_a_template_that_grows_with_the_row_fails_the_row_by_name() -> None:
    body = (
        "{% set a %}"
        + "{% for i in keywords %}{% for j in keywords %}{{ topic }}{% endfor %}{% endfor %}" * 9
    )
    template = PromptTemplate.compile("own", "1", article_template(body + "{% endset %}{{ a }}"))
    assert template.render("first", {"topic": "bread", "keywords": ("one",)})
    with pytest.raises(
        TemplateUnboundedError, match="line 2: its characters and steps exceed the limit of"
    ) as caught:
        template.render("first", {"topic": "bread " * 100, "keywords": tuple("abcdefghijklmnopqrstuvw" * 4)})
    assert caught.value.code == "template_unbounded"
    assert isinstance(caught.value, InputError)


def test_what_an_error_quotes_is_cut() -> None:
    assert len(fault_of(ValueError("x" * 10**6))) < 400


@pytest.mark.parametrize("call", ["m(*ns.a)", "ns.b.copy()"])
def test_what_a_call_copies_is_charged(call: str) -> None:
    """Unlike a call alone, of which so many fit into the bound."""
    source = (
        "{% macro m() %}{% set x = varargs %}{% endmacro %}"
        "{% set ns = namespace(a=['a'] * 10000, b={'a': ['a'] * 10000}) %}"
        "{% for i in range(10000) %}{% set x = CALL %}{% endfor %}"
    )
    with pytest.raises(TemplateTooLargeError):
        render(source.replace("CALL", call))
    render(source.replace("CALL", "m()"))
