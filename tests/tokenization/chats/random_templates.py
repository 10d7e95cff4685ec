"""Chat templates made of Jinja's constructs at random: they print contents, and look into them in every way we know."""

from __future__ import annotations

from random import Random

FILTERS = (
    *("trim", "string", "default('-')", "default('-', true)", "upper", "lower", "title", "capitalize", "wordcount"),
    *(
        "length",
        "truncate(9)",
        "replace('cow', 'bull')",
        "tojson",
        "escape",
        "safe",
        "first",
        "last",
        "list",
        "join('-')",
    ),
    *("center(9)", "indent(2)", "striptags", "urlencode", "reverse", "int", "wordwrap(5)", "trim('c')", "pprint"),
)
METHODS = (
    *("strip()", "lstrip('\\n')", "rstrip()", "strip('c')", "split('</t>')[-1]", "split('</t>')[0]", "split()[0]"),
    *(
        "split(none)",
        "upper()",
        "title()",
        "replace('cow', 'bull')",
        "splitlines()[0]",
        "partition('w')[0]",
        "zfill(7)",
    ),
    *("split('w', 1)[-1]", "count('w')", "find('w')", "encode()", "format(1)", "join(['a', 'b'])", "removeprefix('c')"),
)
QUESTIONS = (
    *(
        "{} is string",
        "{} is defined",
        "{} is none",
        "{} is mapping",
        "{} is iterable",
        "{} is sequence",
        "{} is number",
    ),
    *(
        "{} is upper",
        "{} is lower",
        "{} is sameas 'cow'",
        "{} is eq 'cow'",
        "{} is in ['cow', 'a']",
        "'cow' is in ({})",
    ),
    *("{}", "not {}", "{} == ''", "{} != none", "{} == 'cow'", "{} != 'a'", "{} in ['cow', 'moo']", "{} in 'a cow'"),
    *(
        "'cow' in {}",
        "'' in {}",
        "'\\n' not in {}",
        "{} < 'd'",
        "{} | length > 9",
        "{} | length > 0",
        "{} | trim == ''",
    ),
    *(
        "{}.startswith('cow')",
        "{}.endswith('\\n')",
        "{}.startswith('')",
        "{}.isupper()",
        "{}.isdigit()",
        "{}[0] == 'c'",
    ),
    *("{}.isupper is defined", "{}.nothing is defined", "{} == messages[0].content", "{} in messages[0].content"),
    *("{} in messages | map(attribute='content') | list", "{} | wordcount > 2", "{} and loop.first", "{} is not none"),
    *("m == messages[0]", "messages.index(m) == 0", "m.values() | list | length == 2", "loop.changed({})"),
    *("messages | selectattr('content', 'eq', 'cow') | list", "messages | selectattr('role', 'eq', 'user') | list"),
    *("messages | selectattr('content') | list", "{{'cow': 1}}[{}] is defined", "[1][{}] is defined", "{} is odd"),
)
CONTENTS = (
    "m.content",
    "m['content']",
    "m.get('content')",
    "messages[0].content",
    "messages[-1]['content']",
    "x",
    "n.x",
)
BLOCKS = (
    "{{% if {question} %}}{{{{ {one} }}}}{{% else %}}{{{{ {two} }}}}{{% endif %}}",
    "{{{{ {one} if {question} else {two} }}}}",
    "{{{{ ({one}) + '!' }}}}",
    "{{{{ '[' ~ ({one}) ~ loop.index ~ ']' }}}}",
    "{{{{ ('<< ' + {one} + ' >>') | trim }}}}",
    "{{{{ (' ' + {one}).strip() }}}}",
    "{{{{ '%s' % {one} }}}}",
    "{{{{ {one} * 2 }}}}",
    "{{{{ {one}[:4] }}}}{{{{ {two} }}}}",
    "{{{{ ({one}) or ({two}) }}}}",
    "{{{{ ({one}) and '.' }}}}{{{{ {two} }}}}",
    "{{{{ [{one}, 'a'] | first }}}}",
    "{{{{ [{one}] | join }}}}",
    "{{% for c in {one} %}}{{{{ c }}}}{{% endfor %}}",
    "{{% for c in [{one}] if {question} %}}{{{{ c }}}}{{% else %}}none{{% endfor %}}",
    "{{% set y %}}{{{{ {one} }}}}.{{% endset %}}{{{{ y | length if {question} else y }}}}",
    "{{% set y %}}{{{{ {one} }}}}.{{% endset %}}{{{{ y }}}}",
    "{{% set n.x = {one} %}}{{{{ n.x }}}}",
    "{{% filter upper %}}{{{{ {one} }}}}{{% endfilter %}}",
    "{{% filter trim %}} {{{{ {one} }}}} {{% endfilter %}}",
    "{{{{ shown({one}) }}}}",
    "{{{{ shown(t={one}, u={two}) }}}}",
    "{{{{ shown() }}}}",
    "{{{{ shown({one}) | length }}}}",
    "{{{{ shown({one}) | trim }}}}",
    "{{% call framed() %}}{{{{ {one} }}}}{{% endcall %}}",
    "{{% with y = {one} %}}{{{{ y }}}}{{% if {question} %}}?{{% endif %}}{{% endwith %}}",
    "{{% autoescape true %}}{{{{ {one} }}}}{{% endautoescape %}}",
    "{{{{ m | tojson }}}}",
    "{{{{ m }}}}",
    "{{{{ dict(a={one}).a }}}}",
    "{{{{ cycler({one}, 'b').next() }}}}",
    "{{{{ {one} }}}}{{% if not {question} %}}{{% break %}}{{% endif %}}",
)
TEMPLATE = """\
{% macro shown(t='none', u=messages[0].content | SHOWN) %}({{ t }}{{ u if t is none else '' }}){% endmacro -%}
{% macro framed() %}<b>{{ caller() }}</b>{% endmacro -%}
{% set n = namespace(x='start') %}{% set x = messages[-1].content %}
{%- for m in messages %}{{ '<|im_start|>' + m.role + '\\n' }}BODY{{ '<|im_end|>\\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""


def random_template(random: Random) -> str:
    """A template for chats of one message and more."""
    parts = {name: _expression(random) for name in ("one", "two")} | {"question": _question(random)}
    body = random.choice(BLOCKS).format(**parts)
    return TEMPLATE.replace("BODY", body).replace("SHOWN", random.choice(FILTERS))


def _expression(random: Random) -> str:
    """Half of them are contents as they are, so that many templates do not look into any."""
    expression = random.choice(CONTENTS)
    if random.random() < 0.2:
        expression = f"({expression} | {random.choice(FILTERS)})"
    if random.random() < 0.2:
        expression = f"({expression}).{random.choice(METHODS)}"
    return expression


def _question(random: Random) -> str:
    return random.choice(QUESTIONS).format(_expression(random))
