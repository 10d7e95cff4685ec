"""Chat templates to try: two of published models, and small ones with the habits of others."""

from pathlib import Path

QWEN25, QWEN3 = (
    (Path(__file__).parent / "templates" / f"{name}.jinja").read_text(encoding="utf-8") for name in ("qwen25", "qwen3")
)

# As Llama-3.1's: BOS, a system turn for everyone, contents trimmed, two special tokens around each role.
TRIMMED = """{{- bos_token }}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] | trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = '' %}
{%- endif %}
{{- '<|start_header_id|>system<|end_header_id|>\\n\\nToday Date: 26 Jul 2024\\n\\n' + system_message + '<|eot_id|>' }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}
    {{- message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}"""

# As those of reasoning models: the thoughts of all turns but the last are dropped.
THINKING = """{%- for message in messages %}
    {%- set content = message.content %}
    {%- if not loop.last and '</think>' in content %}
        {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
    {%- endif %}
    {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}"""

# A speaker's name in place of the role, and no special tokens.
NAMED = (
    "{% for message in messages %}{{ message['name'] | default(message['role']) }}: {{ message['content'] }}\n"
    "{% endfor %}{% if add_generation_prompt %}{{ assistant_name | default('assistant') }}: {% endif %}"
)

# As Llama 2's: a space before the answer, which no prompt ends with; contents stripped.
SPACED = (
    "{% for message in messages %}{% if message['role'] == 'user' %}"
    "{{ bos_token + '[INST] ' + message['content'].strip() + ' [/INST]' }}"
    "{% elif message['role'] == 'system' %}{{ raise_exception('no system messages') }}"
    "{% else %}{{ ' ' + message['content'].strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)

# As those of Llama 3.2: today's date, where a function tells it.
DATED = (
    "{% if strftime_now is defined %}{% set date = strftime_now('%d %b %Y') %}{% else %}{% set date = '26 Jul 2024' %}"
    "{% endif %}{{ '<|im_start|>system\nToday: ' + date + '<|im_end|>\n' }}"
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
