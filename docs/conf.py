"""How Sphinx builds the documentation: `make docs`."""

from importlib import metadata

project = "Flask-Idempotent"
author = "The Flask-Idempotent developers"
copyright = f"2026 {author}"
release = metadata.version("flask-idempotent")
version = release

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["examples/**"]

html_theme = "furo"
html_title = f"{project} {release}"
html_static_path = ["_static"]
html_css_files = ["docs.css"]
pygments_dark_style = "github-dark"

myst_enable_extensions = ["colon_fence", "deflist", "fieldlist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"

# Every cross-reference to a name of this package must be found. Other projects' names cannot be,
# as the build needs no network.
nitpicky = True
nitpick_ignore_regex = [(r"py:.*", r"(?!flask_idempotent\b).*")]
