from __future__ import annotations

import pytest

from msm_hpc.base.errors import UserError
from msm_hpc.config.endpoint import Endpoint


@pytest.mark.parametrize(
    "url", ["https://anthropic.com.example/v1", "https://notanthropic.com/v1", "http://127.0.0.1/v1"]
)
def test_the_key_of_a_provider_is_for_none_other(url: str) -> None:
    with pytest.raises(UserError, match=r"ANTHROPIC_API_KEY holds a key of anthropic\.com, which would be sent to"):
        Endpoint(model="m", base_url=url, key_variable="ANTHROPIC_API_KEY")


@pytest.mark.parametrize(
    ("url", "variable"), [("https://api.anthropic.com/v1", "ANTHROPIC_API_KEY"), ("http://h/v1", "")]
)
def test_other_keys_are_the_users_choice(url: str, variable: str) -> None:
    assert Endpoint(model="m", base_url=url, key_variable=variable).key_variable == variable
