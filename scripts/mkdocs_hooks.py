"""MkDocs hooks: publish the model cards and the TorchServe settings, which are outside `docs/`."""

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

_ROOT = Path(__file__).resolve().parent.parent
_PUBLISHED = {"../config.properties": "config.properties"} | {
    f"../archives/{card.parent.name}/CARD.md": f"cards/{card.parent.name}.md"
    for card in sorted(_ROOT.glob("archives/*/CARD.md"))
}
"""Links in `docs/` to files outside, and their paths in the site."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the published files to the site."""
    for link, target in _PUBLISHED.items():
        files.append(File.generated(config, target, abs_src_path=str(_ROOT / link.removeprefix("../"))))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Rewrite links to the published files."""
    for link, target in _PUBLISHED.items():
        markdown = markdown.replace(f"]({link})", f"]({target})")
    return markdown
