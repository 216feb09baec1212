"""Calls functions of the JavaScript modules."""

from typing import Any

from playwright.sync_api import Page

CALL = """async ([module, name, values]) => {
    const result = (await import(`/js/${module}.js`))[name](...values);
    return ArrayBuffer.isView(result) ? [...result] : result;
}"""


def call(page: Page, module: str, name: str, *values: Any) -> Any:
    return page.evaluate(CALL, [module, name, values])
