import pytest

from bulkdl.errors import ConfigError
from bulkdl.settings import Settings, format_value, load_settings
from bulkdl.settings.proxy import OFF, Proxy, parse_proxy


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("http://proxy:3128", Proxy("http", "proxy", 3128)),
        ("HTTPS://Proxy.example", Proxy("https", "proxy.example", 443)),
        ("proxy.example:8080", Proxy("http", "proxy.example", 8080)),
        (" http://[::1]:3128/ ", Proxy("http", "::1", 3128)),
        ("http://me:p%40ss@proxy:1", Proxy("http", "proxy", 1, "me", "p@ss")),
        ("off", OFF),
        ("OFF", OFF),
    ],
)
def test_parse_proxy_reads_url_and_host_with_port(text, parsed):
    assert parse_proxy(text) == parsed


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "socks5://proxy:1080",
            "http://",
            "http://proxy:port",
            "http://proxy:99999",
            "http://proxy/path",
        ),
        *(
            "http://proxy?x=1",
            "http://pro xy:1",
            "http://[::1",
            "http://a%3Ab:canary@proxy:1",
            "http://%ff@p:1",
        ),
        *("http://prüfung:1", "http://proxy:1\nx", 3128, True),
    ],
)
def test_proxy_rejects_other_text_without_quoting_it(text):
    with pytest.raises(ConfigError) as caught:
        load_settings({"proxy": text})
    assert "--proxy: expected http://" in str(caught.value)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("text", ["http://me:canary@proxy:3128", "http://canary@proxy:3128"])
def test_proxy_credentials_are_not_shown(text):
    settings = load_settings({}, None, {"BULKDL_PROXY": text}).settings
    assert settings.proxy is not None
    assert settings.proxy.url == "http://proxy:3128"
    for shown_text in (
        str(settings),
        repr(settings),
        format_value(settings.proxy),
        settings.model_dump_json(),
    ):
        assert "canary" not in shown_text
    assert format_value(settings.proxy) == "http://***@proxy:3128"


def test_proxy_off_is_shown_as_written():
    assert format_value(Settings(proxy="off").proxy) == "off"
